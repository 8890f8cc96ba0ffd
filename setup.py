"""Stop a build whose links are not links; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup

package = Path(__file__).parent / "src" / "sealane"
broken = [name for name in ("consumers", "layers", "routing") if not (package / name).is_dir()]
if broken:
    raise SystemExit(
        f"Sealane cannot be built from this checkout: {', '.join(f'src/sealane/{name}' for name in broken)} "
        "should be a symbolic link to the directory of that name at the top of the repository, and is not a "
        "directory here. Git writes links as small text files where symbolic links are switched off, as on "
        "Windows. Switch on Windows' developer mode, run `git config core.symlinks true` and "
        "`git checkout -- src/sealane`, or install the published wheel or sdist, which contain no links."
    )

setup()
