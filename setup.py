"""All but this is in pyproject.toml: the folder configs/ travels inside the package, as ltjax.configs."""

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfigs(build_py):
    """Adds it to what is built; an editable install has it beside the package."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.packages = [*self.packages, 'ltjax.configs']
        self.package_dir = {**self.package_dir, 'ltjax.configs': 'configs'}


setup(cmdclass={'build_py': WithConfigs})
