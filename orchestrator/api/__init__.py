"""The Python entrance: `study` is the class that people use, `driving` runs a study, `study_file` reads YAML."""
