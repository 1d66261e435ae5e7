"""The portal: settings, routes and process entry points. Imports neither Django nor Celery, so that hosts may import it."""
