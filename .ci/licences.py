"""Checks the licences and bans of deny.toml against the crates that a build uses.

`cargo deny check licenses bans` says the same; this needs nothing but cargo and Python, and no network.
"""

import json
import re
import subprocess
import sys
import tomllib


def terms(expression):
    """Whether an SPDX expression is satisfied, given a predicate for one licence."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    place = 0

    def either(allowed):
        nonlocal place
        result = both(allowed)
        while place < len(tokens) and tokens[place].upper() == "OR":
            place += 1
            result = both(allowed) or result
        return result

    def both(allowed):
        nonlocal place
        result = one(allowed)
        while place < len(tokens) and tokens[place].upper() == "AND":
            place += 1
            result = one(allowed) and result
        return result

    def one(allowed):
        nonlocal place
        if tokens[place] == "(":
            place += 1
            result = either(allowed)
            place += 1
            return result
        name = tokens[place]
        place += 1
        if place < len(tokens) and tokens[place].upper() == "WITH":
            name = f"{name} WITH {tokens[place + 1]}"
            place += 2
        return name in allowed or name.split(" WITH ")[0] in allowed

    return either


def main():
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    allowed = set(rules["licenses"]["allow"])
    banned = {rule["crate"]: rule["reason"] for rule in rules["bans"]["deny"]}
    metadata = json.loads(
        subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--locked"], text=True)
    )
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    tree = subprocess.check_output(
        ["cargo", "tree", "-e", "normal,build", "--prefix", "none", "--no-dedupe", "--locked"], text=True
    )
    built = {line.split(" ")[0] for line in tree.splitlines() if line}
    wrong = []
    checked = 0
    for package in metadata["packages"]:
        if package["id"] not in used or package["name"] not in built:
            continue
        checked += 1
        if package["name"] in banned:
            wrong.append(f"{package['name']}: banned: {banned[package['name']]}")
        licence = package["license"]
        if licence is None or not terms(licence)(allowed):
            wrong.append(f"{package['name']} {package['version']}: licence {licence} is not allowed")
    print(f"licences and bans of {checked} crates checked")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
