"""The one thing that standings don't see by themselves: a person who comes into a team or leaves it."""

from django.db import migrations

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


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0001_initial"),
        ("people", "0001_initial"),
    ]
    operations = [migrations.RunSQL(MOVED)]
