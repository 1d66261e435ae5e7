"""Sums of teams, kept; and the one thing that standings don't see by themselves: a person who comes into a team or leaves it."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

MOVED = """
CREATE FUNCTION people_teammember_moved() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  UPDATE nodes_workday SET due_on = current_date WHERE id =
    (SELECT id FROM nodes_workday WHERE owner_id = CASE TG_OP WHEN 'DELETE' THEN OLD.user_id ELSE NEW.user_id END ORDER BY day DESC LIMIT 1);
  RETURN NULL;
END $$;
CREATE TRIGGER people_teammember_moved AFTER INSERT OR DELETE OR UPDATE OF team_id ON people_teammember
  FOR EACH ROW EXECUTE FUNCTION people_teammember_moved();
"""
MOVED_DROP = """
DROP TRIGGER people_teammember_moved ON people_teammember;
DROP FUNCTION people_teammember_moved();
"""
FILL = "UPDATE nodes_workday SET due_on = current_date WHERE owner_id IN (SELECT user_id FROM people_teammember)"


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0005_workdays_and_standings"),
        ("people", "0004_notifications"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveIndex(model_name="standing", name="standing_rank"),
        migrations.AddIndex(
            model_name="standing",
            index=models.Index(fields=["period_days", "science", "-work_micro", "owner"], name="standing_rank"),
        ),
        migrations.AddField(
            model_name="standing",
            name="team",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="people.team",
            ),
        ),
        migrations.CreateModel(
            name="TeamStanding",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "team_id", "period_days", "science", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="people.team",
                    ),
                ),
                ("period_days", models.PositiveSmallIntegerField()),
                ("science", models.CharField(max_length=64)),
                ("members", models.BigIntegerField()),
                ("accepted", models.BigIntegerField()),
                ("rejected", models.BigIntegerField()),
                ("work_micro", models.BigIntegerField()),
                ("paid_micro", models.BigIntegerField()),
            ],
            options={"indexes": [models.Index(fields=["period_days", "science", "-work_micro", "team"], name="team_standing_rank")]},
        ),
        migrations.RunSQL(MOVED, reverse_sql=MOVED_DROP),
        migrations.RunSQL(FILL, reverse_sql=migrations.RunSQL.noop),
    ]
