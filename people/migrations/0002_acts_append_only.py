"""The trail of moderators' acts, which only grows: whoever writes, by whichever way, the table refuses UPDATE, DELETE and TRUNCATE."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION people_act_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused; another act can undo what this one did', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER people_act_append_only BEFORE UPDATE OR DELETE ON people_act FOR EACH ROW EXECUTE FUNCTION people_act_refuse_change();
CREATE TRIGGER people_act_no_truncate BEFORE TRUNCATE ON people_act FOR EACH STATEMENT EXECUTE FUNCTION people_act_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("people", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD)]
