"""Backups of a running portal, and the restore of one onto an empty place.

FOLDER/blobs/<ab>/<hex>         bytes that are in no row, by digest; all backups of the folder share them
      /2026-11-27T02-00-00Z/    one backup: appears whole, under its own name, when everything of it is on the disk
          manifest.json         what it holds, signed by the coordinator (manifest.py)
          database.dump         pg_dump, custom format
          blobs.txt             digest and size of each blob that the dump refers to and whose bytes are in no row
          keys/                 the coordinator's keys as they are, and the portal's secret
          log/epoch-<n>/checkpoint    what was published last, by epoch
"""
