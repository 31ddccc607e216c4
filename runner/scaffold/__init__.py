"""Creates projects from copier templates and updates them to later versions of the template."""

from runner.scaffold.projects import ProjectUpdate, ScaffoldRequest, new_project, update_project
from runner.scaffold.releases import Templates, packaged_templates, templates_folder

__all__ = [
    "ProjectUpdate",
    "ScaffoldRequest",
    "Templates",
    "new_project",
    "packaged_templates",
    "templates_folder",
    "update_project",
]
