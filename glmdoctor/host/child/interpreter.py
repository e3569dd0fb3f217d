"""Say where this interpreter keeps its packages. Input: {"pythonpath": text}; started with -I, any Python from 3.6."""

import json
import os
import platform
import site
import sys
import sysconfig


def site_folders():
    folders = list(site.getsitepackages()) if hasattr(site, "getsitepackages") else []
    folders += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    if uses_user_site():
        folders.append(site.getusersitepackages())
    return [folder for folder in dict.fromkeys(folders) if folder and os.path.isdir(folder)]


def uses_user_site():
    """-I leaves it out; a plain start has it, unless this is a virtual environment closed to the system's packages."""
    if sys.prefix == sys.base_prefix:
        return True
    try:
        with open(os.path.join(sys.prefix, "pyvenv.cfg"), encoding="utf-8") as file:
            text = file.read().lower().replace(" ", "")
    except OSError:
        return False
    return "include-system-site-packages=true" in text


def main():
    asked = json.load(sys.stdin)
    before = [folder for folder in asked["pythonpath"].split(os.pathsep) if os.path.isabs(folder)]
    folders = site_folders()
    own = [folder for folder in sys.path if folder and folder != os.path.dirname(os.path.abspath(__file__))]
    print(
        json.dumps(
            {
                "version": platform.python_version(),
                "prefix": sys.prefix,
                "platform": sysconfig.get_platform(),
                "path": list(dict.fromkeys(before + own + folders)),
                "site_folders": list(dict.fromkeys(before + folders)),
            }
        )
    )


main()
