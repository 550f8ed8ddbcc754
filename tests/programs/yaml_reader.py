"""What PyYAML, a reader of YAML 1.1, takes the documents of standard input for, as one JSON list."""

import json
import sys

import yaml

print(json.dumps(list(yaml.safe_load_all(sys.stdin.buffer.read().decode()))))
