"""What lists of jobs need to cost the same however many there are, and who else may see a job."""

import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.db.models.functions.text
from django.db import migrations, models

FILL = """UPDATE jobs_job j SET title = coalesce(descriptor->>'title', ''),
    visibility = CASE descriptor->>'visibility' WHEN 'public' THEN 'public' ELSE 'private' END,
    was_taken = EXISTS (SELECT FROM jobs_replica r WHERE r.job_id = j.id AND r.leased_at IS NOT NULL)"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0008_indexes_that_earn_their_keep")]

    operations = [
        migrations.AddField("job", "title", models.CharField(blank=True, max_length=200, default=""), preserve_default=False),
        migrations.AddField("job", "was_taken", models.BooleanField(default=False)),
        migrations.AddField("job", "is_archived", models.BooleanField(default=False)),
        migrations.AddField(
            "job",
            "visibility",
            models.CharField(
                choices=[("private", "private"), ("unlisted", "unlisted"), ("public", "public")], default="private", max_length=16
            ),
        ),
        migrations.AddField("job", "link_secret", models.CharField(blank=True, max_length=43, default=""), preserve_default=False),
        migrations.RunSQL(FILL, reverse_sql=migrations.RunSQL.noop),
        migrations.AddField(
            "job",
            "shown_state",
            models.GeneratedField(
                db_persist=True,
                expression=models.Case(
                    models.When(
                        models.Q(
                            ("state__in", ["queued", "running", "verifying"]),
                            models.Q(("policy", "spot"), ("copies__gt", 1), _connector="OR"),
                            ("was_taken", True),
                        ),
                        then=models.Value("running"),
                    ),
                    models.When(
                        models.Q(
                            ("state__in", ["queued", "running", "verifying"]),
                            models.Q(("policy", "spot"), ("copies__gt", 1), _connector="OR"),
                        ),
                        then=models.Value("queued"),
                    ),
                    default=models.F("state"),
                ),
                output_field=models.CharField(max_length=16),
            ),
        ),
        migrations.AddField(
            "job",
            "words",
            models.GeneratedField(
                db_persist=True,
                expression=django.contrib.postgres.search.SearchVector(
                    models.Func(
                        django.db.models.functions.text.Concat("label", models.Value(" "), "title"),
                        models.Value("-_.,:;+/@()"),
                        models.Value("           "),
                        function="translate",
                        output_field=models.TextField(),
                    ),
                    config="simple",
                ),
                output_field=django.contrib.postgres.search.SearchVectorField(),
            ),
        ),
        migrations.RemoveIndex("job", name="jobs_job_owner_i_a9204c_idx"),
        migrations.AddIndex("job", models.Index(fields=["owner", "is_archived", "-submitted_at", "-id"], name="job_listed")),
        migrations.AddIndex(
            "job",
            models.Index(
                fields=["owner", "is_archived", "shown_state", "job_type", "tier", "-submitted_at", "-id"], name="job_listed_by_group"
            ),
        ),
        migrations.AddIndex("job", django.contrib.postgres.indexes.GinIndex(fields=["words"], name="job_words")),
        migrations.AddConstraint(
            "job",
            models.UniqueConstraint(
                condition=models.Q(("link_secret", ""), _negated=True), fields=("link_secret",), name="job_link_secret_unique"
            ),
        ),
    ]
