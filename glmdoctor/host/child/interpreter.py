"""Say where this interpreter keeps its packages. Started with its packages, any Python from 3.6.

Input: {"pythonpath": text}.
"""

import json
import os
import platform
import site
import sys
import sysconfig


def site_folders():
    """Of the environment, and the user's own where a plain start has them."""
    folders = list(site.getsitepackages()) if hasattr(site, "getsitepackages") else []
    folders += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    folders += [folder for folder in [site.getusersitepackages()] if folder in sys.path]
    return [folder for folder in dict.fromkeys(folders) if folder and os.path.isdir(folder)]


def main():
    asked = json.load(sys.stdin)
    named = [folder for folder in asked["pythonpath"].split(os.pathsep) if os.path.isabs(folder)]
    folders = site_folders()
    answer = {
        "version": platform.python_version(),
        "prefix": sys.prefix,
        "platform": sysconfig.get_platform(),
        "path": list(dict.fromkeys(named + sys.path + folders)),
        "site_folders": list(dict.fromkeys(named + folders)),
    }
    print(json.dumps(answer))


main()
