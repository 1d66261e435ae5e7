"""A team has a lead as long as it has members, and ends with its last one, whoever removes them: also who is deleted as a person."""

from django.db import migrations

ENSURE = """
CREATE FUNCTION people_team_lead_ensure() RETURNS trigger LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  PERFORM 1 FROM people_team WHERE id = OLD.team_id FOR UPDATE;  -- one at a time
  IF NOT EXISTS (SELECT 1 FROM people_teammember WHERE team_id = OLD.team_id) THEN
    DELETE FROM people_team WHERE id = OLD.team_id;
  ELSIF NOT EXISTS (SELECT 1 FROM people_teammember WHERE team_id = OLD.team_id AND is_lead) THEN
    UPDATE people_teammember SET is_lead = true
    WHERE id = (SELECT id FROM people_teammember WHERE team_id = OLD.team_id ORDER BY joined_at, id LIMIT 1);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER people_team_lead_ensure AFTER DELETE ON people_teammember
  FOR EACH ROW EXECUTE FUNCTION people_team_lead_ensure();
"""


class Migration(migrations.Migration):
    dependencies = [("people", "0002_acts_append_only")]
    operations = [migrations.RunSQL(ENSURE)]
