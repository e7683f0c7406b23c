"""Validates lines of JSON from standard input by a JSON Schema (draft 2020-12), with its formats.

Usage: validate.py SCHEMA. Prints what is wrong with the first lines that are not valid, and ends with 1 then.
"""

import json
import sys

from jsonschema import Draft202012Validator


def main() -> int:
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    wrong = 0
    for line in sys.stdin:
        try:
            problems = [error.message for error in validator.iter_errors(json.loads(line))]
        except json.JSONDecodeError as error:
            problems = [str(error)]
        if problems:
            wrong += 1
            print(f"{line.strip()}\n  {problems[0][:600]}")
        if wrong == 5:
            break
    return 1 if wrong else 0


sys.exit(main())
