"""What shows how a result came about: custody line, deviation report, files, bundle, logs; and what may be shown when."""
