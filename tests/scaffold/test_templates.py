"""Projects from templates: made whole or not at all, without foreign code, and updated from version to version."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from runner.cli.new import new
from runner.cli.update import update
from runner.environments.declare.project_lock import differences, lock_pair, spec_lines
from runner.environments.declare.spec import read_declared, read_spec
from runner.errors import ScaffoldError, UsageError
from runner.manifest.files import FolderFiles
from runner.model import EnvironmentDeclaration, EnvironmentKind, Event, EventKind
from runner.scaffold import (
    ScaffoldRequest,
    Templates,
    new_project,
    packaged_templates,
    templates_folder,
    update_project,
)
from runner.settings import Home
from tests.conftest import MakeRepository, git, write_tree

ANSWERS = {"{{ _copier_conf.answers_file }}.jinja": "{{ _copier_answers | to_nice_yaml -}}\n"}
BUILT_IN = ("minimal", "sklearn")
MakeProject = Callable[..., Path]
POEM = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"


def silent(_event: Event) -> None:
    """Take an event and say nothing."""


def template(files: Mapping[str, str], questions: str = "") -> dict[str, str]:
    """Return the files of a template: path → content."""
    config = f'_subdirectory: template\nproject_name:\n  type: str\n  default: "{{{{ _folder_name }}}}"\n{questions}'
    return {"copier.yml": config, **{f"template/{name}": text for name, text in {**ANSWERS, **files}.items()}}


def make_templates(folder: Path, version: str, files: Mapping[str, str], questions: str = "") -> Templates:
    """Write a folder of templates that holds one, named ``demo``."""
    write_tree(folder / "demo", template(files, questions))
    return Templates(folder, version)


@pytest.fixture
def make(tmp_path: Path, home: Home) -> MakeProject:
    def made(name: str, templates: Templates | None = None, **request: object) -> Path:
        requested = ScaffoldRequest(folder=tmp_path / name, **request)  # type: ignore[arg-type]
        return new_project(requested, home, silent, templates)

    return made


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}", ""),
        ("{% set n = namespace(s='a') %}{% for a in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}", ""),
        (
            "x",
            "a: &a [x]\n"
            + "".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}' if n else '*a'] * 9)}]\n" for n in range(9)),
        ),
    ],
    ids=["time", "memory", "aliases"],
)
def test_a_template_that_does_not_end_is_given_up(
    make: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, questions: str
) -> None:
    monkeypatch.setattr("runner.scaffold.rendering._SECONDS", 3)
    monkeypatch.setattr("runner.scaffold.rendering._MEMORY", 256 << 20)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(ScaffoldError):
        make("p", make_templates(tmp_path / "templates", "1", {"a.txt.jinja": text}, questions), template="demo")
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert not (tmp_path / "p").exists()


class TestNew:
    @pytest.mark.parametrize("name", BUILT_IN)
    def test_a_project_is_a_clean_repository_with_one_commit(
        self, make: MakeProject, tmp_path: Path, name: str
    ) -> None:
        folder = make("churn", template=name)
        assert folder == tmp_path / "churn"
        assert git(folder, "status", "--porcelain") == ""
        assert git(folder, "log", "--format=%an <%ae>") == "Tester <tester@example.invalid>"
        assert {"MLproject", "README.md", "python_env.yaml", "requirements.txt", ".github/workflows/ci.yml"} <= set(
            git(folder, "ls-files").splitlines()
        )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["churn"]

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_nothing_of_this_machine_is_written_into_a_project(
        self, make: MakeProject, tmp_path: Path, home: Home, name: str
    ) -> None:
        folder = make("churn", template=name)
        text = "\n".join(path.read_text() for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
        assert str(tmp_path) not in text
        assert str(home.root) not in text
        assert f"_src_path: proj://{name}.git" in text

    def test_a_neutral_author_stands_in_for_an_unknown_one(self, make: MakeProject, clean_room: Path) -> None:
        (clean_room / "gitconfig").write_text("", encoding="utf-8")
        assert git(make("churn", template="minimal"), "log", "--format=%an %ae %cn") == "proj proj@example.invalid proj"

    def test_answers_reach_the_files_whatever_they_hold(self, make: MakeProject) -> None:
        tricky = """It's "all" {about} #1: alpha & ${beta}"""
        folder = make(
            "churn", template="minimal", answers={"project_name": tricky, "description": tricky, "ci": "none"}
        )
        assert yaml.safe_load((folder / "MLproject").read_text())["name"] == tricky
        assert tricky in (folder / "README.md").read_text()
        assert not (folder / ".github").exists()

    @pytest.mark.parametrize(
        ("answers", "words"),
        [
            ({"descripton": "x"}, "did you mean description"),
            ({"ci": "jenkins"}, "jenkins|Invalid choice"),
            ({"description": "two\nlines"}, "One line"),
        ],
    )
    def test_refused_answers_leave_nothing(
        self, make: MakeProject, tmp_path: Path, answers: dict[str, str], words: str
    ) -> None:
        with pytest.raises(ScaffoldError) as caught:
            make("churn", template="minimal", answers=answers)
        assert re.search(words, f"{caught.value.context} {caught.value.hint}")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "1st", "-x", "a b", "é", "con", "COM1", "a" * 65, ".hidden", "a.b"]
    )
    def test_bad_names_are_refused(
        self, tmp_path: Path, home: Home, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ScaffoldError, match="name of a project") as caught:
            new_project(ScaffoldRequest(folder=Path(name)), home, silent)
        assert caught.value.hint
        assert list(tmp_path.iterdir()) == []

    def test_a_place_that_is_not_there_is_refused(self, make: MakeProject, tmp_path: Path) -> None:
        with pytest.raises(ScaffoldError, match="not a folder"):
            make("absent/churn")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_empty_is_refused_and_kept(self, make: MakeProject, tmp_path: Path) -> None:
        write_tree(tmp_path / "churn", {"mine.txt": "mine"})
        with pytest.raises(ScaffoldError, match="not empty"):
            make("churn", template="minimal")
        assert [path.name for path in tmp_path.rglob("*")] == ["churn", "mine.txt"]

    def test_an_empty_folder_is_filled(self, make: MakeProject, tmp_path: Path) -> None:
        (tmp_path / "churn").mkdir()
        assert (make("churn", template="minimal") / "MLproject").is_file()

    def test_a_file_or_link_in_the_way_is_refused(self, make: MakeProject, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x", encoding="utf-8")
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        for name in ("file", "link"):
            with pytest.raises(ScaffoldError, match="no folder"):
                make(name, template="minimal")

    def test_a_failing_template_leaves_nothing(self, make: MakeProject, tmp_path: Path) -> None:
        templates = make_templates(tmp_path / "t", "1", {"a.txt": "a", "z.txt.jinja": "{{ 1 / 0 }}"})
        with pytest.raises(ScaffoldError, match="can't be used"):
            make("churn", templates, template="demo")
        assert [path.name for path in tmp_path.iterdir()] == ["t"]

    def test_a_commit_that_fails_leaves_nothing(
        self, make: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GIT_AUTHOR_DATE", "not a date")
        with pytest.raises(ScaffoldError, match="git"):
            make("churn", template="minimal")
        assert list(tmp_path.iterdir()) == []

    def test_hooks_and_repositories_of_the_caller_play_no_part(
        self, make: MakeProject, tmp_path: Path, clean_room: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hooks = write_tree(clean_room / "hooks", {"pre-commit": f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n"})
        (hooks / "pre-commit").chmod(0o755)
        git(tmp_path, "config", "--global", "core.hooksPath", str(hooks))
        git(tmp_path, "config", "--global", "commit.gpgSign", "true")
        mine = write_tree(tmp_path / "mine", {"a": "a"})
        git(mine, "init", "--quiet")
        before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
        monkeypatch.setenv("GIT_DIR", str(mine / ".git"))
        folder = make("churn", template="minimal")
        monkeypatch.delenv("GIT_DIR")
        assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before
        assert len(git(folder, "log", "--format=%h").splitlines()) == 1
        assert not (tmp_path / "ran").exists()

    def test_a_project_inside_a_repository_is_pointed_out(self, home: Home, make_repository: MakeRepository) -> None:
        printed: list[Event] = []
        outer = make_repository({"a": "a"})
        new_project(ScaffoldRequest(folder=outer / "churn", template="minimal"), home, printed.append)
        assert any(event.kind is EventKind.NOTICE and "git repository" in event.message for event in printed)


class TestTrust:
    TASK = "_tasks: [touch ran]\n"

    @pytest.fixture
    def repository(self, make_repository: MakeRepository) -> Path:
        files = template({"a.txt": "a"})
        root = make_repository({**files, "copier.yml": self.TASK + files["copier.yml"]}, name="template")
        git(root, "tag", "1.0")
        return root

    @pytest.mark.parametrize("kind", ["path", "file"])
    def test_code_of_a_template_runs_only_with_trust(
        self, make: MakeProject, tmp_path: Path, repository: Path, kind: str
    ) -> None:
        place = str(repository) if kind == "path" else repository.as_uri()
        with pytest.raises(ScaffoldError, match="tasks") as caught:
            make("churn", template=place)
        assert "--trust" in (caught.value.hint or "")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["template"]
        assert (make("churn", template=place, trust=True) / "ran").exists()

    def test_the_refusal_names_every_feature(self, make: MakeProject, make_repository: MakeRepository) -> None:
        files = template({})
        extra = self.TASK + "_jinja_extensions: [jinja2.ext.loopcontrols]\n"
        root = make_repository({**files, "copier.yml": extra + files["copier.yml"]}, name="template")
        with pytest.raises(ScaffoldError, match="jinja_extensions, tasks"):
            make("churn", template=str(root))

    def test_trust_given_to_copier_elsewhere_does_not_count(
        self, make: MakeProject, clean_room: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = clean_room / "settings.yml"
        settings.write_text(f"trust: ['{repository}']\n", encoding="utf-8")
        monkeypatch.setenv("COPIER_SETTINGS_PATH", str(settings))
        with pytest.raises(ScaffoldError, match="tasks"):
            make("churn", template=str(repository))

    def test_migrations_run_only_with_trust(
        self, make: MakeProject, home: Home, make_repository: MakeRepository
    ) -> None:
        files = template({"a.txt": "a"})
        root = make_repository(files, name="template")
        git(root, "tag", "1.0")
        folder = make("churn", template=str(root))
        write_tree(root, {"copier.yml": "_migrations: [touch migrated]\n" + files["copier.yml"]})
        git(root, "commit", "--quiet", "--all", "--message=2")
        git(root, "tag", "2.0")
        with pytest.raises(ScaffoldError, match="migrations"):
            update_project(folder, home, silent)
        assert git(folder, "status", "--porcelain") == ""
        update_project(folder, home, silent, trust=True)
        assert (folder / "migrated").exists()

    @pytest.mark.parametrize(
        "words",
        [
            "ext::sh -c 'touch ran'",
            "-u",
            "--upload-pack=x",
            "http://localhost/x.git",
            "git://localhost/x",
            "ext::x.git",
            "skleran",
        ],
    )
    def test_places_of_refused_kinds_are_refused(self, make: MakeProject, tmp_path: Path, words: str) -> None:
        with pytest.raises(ScaffoldError):
            make("churn", template=words)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("words", ["https://user:s3cr3t@localhost/x.git", "https://s3cr3t@localhost/x.git"])
    def test_credentials_are_refused_and_not_repeated(self, make: MakeProject, words: str) -> None:
        with pytest.raises(ScaffoldError, match="credentials") as caught:
            make("churn", template=words)
        assert "s3cr3t" not in f"{caught.value} {caught.value.context} {caught.value.hint}"

    def test_a_submodule_of_a_template_may_not_be_a_path(
        self, make: MakeProject, make_repository: MakeRepository
    ) -> None:
        inner = make_repository({"secret": "s"}, name="inner")
        outer = make_repository(template({}), name="outer")
        git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "template/inner")
        git(outer, "commit", "--quiet", "--message=2")
        with pytest.raises(ScaffoldError, match="git failed"):
            make("churn", template=outer.as_uri())

    def test_a_link_out_of_a_template_brings_nothing_in(
        self, make: MakeProject, tmp_path: Path, make_repository: MakeRepository
    ) -> None:
        (tmp_path / "private").write_text("private", encoding="utf-8")
        root = make_repository(template({}), name="template")
        (root / "template" / "leak").symlink_to(tmp_path / "private")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message=2")
        with pytest.raises(ScaffoldError, match="can't be used") as caught:
            make("churn", template=root.as_uri())
        assert "forbidden" in (caught.value.context or "")
        assert not (tmp_path / "churn").exists()

    def test_built_in_templates_run_no_code(self) -> None:
        for name in BUILT_IN:
            config = yaml.safe_load((templates_folder() / name / "copier.yml").read_text())
            assert not {"_tasks", "_migrations", "_jinja_extensions"} & set(config)


@pytest.mark.slow
class TestUpdate:
    @pytest.fixture
    def first(self, tmp_path: Path) -> Templates:
        return make_templates(
            tmp_path / "v1", "1.0", {"poem.txt": POEM, "gone.txt": "x", "name.txt.jinja": "{{ project_name }}"}
        )

    @pytest.fixture
    def second(self, tmp_path: Path) -> Templates:
        files = {
            "poem.txt": POEM.replace("one", "ONE"),
            "new.txt.jinja": "{{ colour }}",
            "name.txt.jinja": "{{ project_name }}",
        }
        return make_templates(tmp_path / "v2", "2.0", files, "colour:\n  type: str\n  default: blue\n")

    def test_a_later_version_is_merged_with_what_the_user_changed(
        self, make: MakeProject, home: Home, first: Templates, second: Templates
    ) -> None:
        folder = make("churn", first, template="demo")
        (folder / "poem.txt").write_text(POEM.replace("seven", "SEVEN"), encoding="utf-8")
        (folder / "mine.txt").write_text("mine", encoding="utf-8")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message=mine")
        done = update_project(folder, home, silent, templates=second)
        assert (done.before, done.after, done.conflicts) == ("1.0", "2.0", ())
        assert done.changed == (".copier-answers.yml", "gone.txt", "new.txt", "poem.txt")
        assert (folder / "poem.txt").read_text() == POEM.replace("one", "ONE").replace("seven", "SEVEN")
        assert (folder / "new.txt").read_text() == "blue"
        assert (folder / "name.txt").read_text() == "churn"
        assert (folder / "mine.txt").read_text() == "mine"
        assert git(folder, "log", "--format=%s").splitlines()[0] == "mine"

    def test_lines_that_both_changed_are_left_to_the_user(
        self, make: MakeProject, home: Home, first: Templates, second: Templates
    ) -> None:
        folder = make("churn", first, template="demo")
        (folder / "poem.txt").write_text(POEM.replace("one", "1"), encoding="utf-8")
        git(folder, "commit", "--quiet", "--all", "--message=mine")
        done = update_project(folder, home, silent, templates=second)
        assert done.conflicts == ("poem.txt",)
        assert {"1", "ONE"} < set((folder / "poem.txt").read_text().splitlines())

    def test_another_machine_finds_the_old_version_among_the_past_ones(
        self, make: MakeProject, tmp_path: Path, first: Templates, second: Templates
    ) -> None:
        folder = make("churn", first, template="demo")
        elsewhere = Home(tmp_path / "elsewhere")
        with pytest.raises(ScaffoldError, match=r"1\.0 of the template 'demo' is unknown here"):
            update_project(folder, elsewhere, silent, templates=second)
        (second.folder / "past" / "1.0").mkdir(parents=True)
        (first.folder / "demo").rename(second.folder / "past" / "1.0" / "demo")
        assert update_project(folder, elsewhere, silent, templates=second).after == "2.0"

    def test_each_state_of_a_version_in_the_making_is_a_version(
        self, make: MakeProject, home: Home, first: Templates
    ) -> None:
        folder = make("churn", first, template="demo")
        assert update_project(folder, home, silent, templates=first).changed == ()
        write_tree(first.folder / "demo/template", {"poem.txt": "changed\n"})
        assert update_project(folder, home, silent, templates=first).after == "1.0+1"
        assert (folder / "poem.txt").read_text() == "changed\n"

    def test_uncommitted_changes_stop_an_update(
        self, make: MakeProject, home: Home, first: Templates, second: Templates
    ) -> None:
        folder = make("churn", first, template="demo")
        (folder / "poem.txt").write_text("mine", encoding="utf-8")
        with pytest.raises(ScaffoldError, match="uncommitted") as caught:
            update_project(folder, home, silent, templates=second)
        assert "poem.txt" in (caught.value.context or "")
        assert (folder / "poem.txt").read_text() == "mine"

    def test_a_git_url_is_updated_to_its_latest_tag(
        self, make: MakeProject, home: Home, make_repository: MakeRepository
    ) -> None:
        root = make_repository(template({"a.txt": "1\n"}), name="template.git")
        git(root, "tag", "v1.0")
        folder = make("churn", template=root.as_uri())
        write_tree(root, {"template/a.txt": "2\n"})
        git(root, "commit", "--quiet", "--all", "--message=2")
        git(root, "tag", "v2.0")
        done = update_project(folder, home, silent)
        assert (done.before, done.after) == ("v1.0", "v2.0")
        assert (folder / "a.txt").read_text() == "2\n"

    def test_what_cannot_be_updated_says_why(self, make: MakeProject, tmp_path: Path, home: Home) -> None:
        plain = write_tree(tmp_path / "plain", {"a": "a"})
        with pytest.raises(ScaffoldError, match="not made from a template"):
            update_project(plain, home, silent)
        write_tree(tmp_path / "unversioned", template({"a.txt": "a"}))
        folder = make("churn", template=str(tmp_path / "unversioned"))
        with pytest.raises(ScaffoldError, match="which version"):
            update_project(folder, home, silent)
        write_tree(plain, {".copier-answers.yml": "_src_path: proj://gone.git\n_commit: '1'\n"})
        git(plain, "init", "--quiet")
        git(plain, "add", "--all")
        git(plain, "commit", "--quiet", "--message=1")
        with pytest.raises(ScaffoldError, match="no template 'gone'"):
            update_project(plain, home, silent)


class TestCommands:
    def test_new_then_update(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        made = CliRunner().invoke(new, ["churn", "--template", "minimal", "--data", "ci=none"])
        assert made.exit_code == 0, made.output
        assert made.stdout == f"{tmp_path / 'churn'}\n"
        assert "cd churn\n        proj run ." in made.stderr
        again = CliRunner().invoke(update, ["churn"], standalone_mode=False)
        assert (again.return_value, again.stdout) == (0, "")
        assert "nothing changed" in again.stderr

    @pytest.mark.parametrize("words", [["--data", "x"], ["--data", "=x"], ["--data", "a=1", "--data", "a=2"]])
    def test_answers_that_make_no_sense_are_wrong_usage(self, words: list[str]) -> None:
        assert isinstance(CliRunner().invoke(new, ["churn", *words]).exception, UsageError)

    def test_help_names_what_is_there(self) -> None:
        text = CliRunner().invoke(new, ["--help"]).output
        assert all(name in text for name in packaged_templates().names)

    def test_two_at_once_share_the_home(self, tmp_path: Path) -> None:
        code = "import sys; from runner.cli.new import new; new([sys.argv[1], '-t', 'minimal'])"
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, name],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stderr=subprocess.PIPE,
            )
            for name in ("a", "b", "c", "d")
        ]
        assert [(process.communicate()[1], process.returncode)[1] for process in started] == [0, 0, 0, 0]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]


class TestTemplates:
    @pytest.mark.parametrize(
        "lock", sorted(templates_folder().glob("*/template/requirements.txt")), ids=lambda path: path.parts[-3]
    )
    def test_locks_are_pinned_by_hash_and_hold_no_address(self, lock: Path) -> None:
        text = lock.read_text(encoding="utf-8")
        assert not re.search(r"https?:|--(extra-)?index|--find-links|@ ", text)
        entries = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]
        assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)

    @pytest.mark.parametrize("folder", sorted(templates_folder().glob("*/template")), ids=lambda path: path.parts[-2])
    def test_locks_say_what_they_are_made_from_and_are_up_to_date(self, folder: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        files = FolderFiles(copy)
        declaration = EnvironmentDeclaration(kind=EnvironmentKind.PYTHON_ENV, path="python_env.yaml")
        pair = lock_pair(read_declared(declaration, files), files)
        assert pair is not None
        assert pair.found is not None
        assert (pair.path, pair.spec.file) == ("requirements.txt", "requirements.in")
        assert differences(pair.found, spec_lines(pair.spec, files)) == ()
        assert read_spec(declaration, files).refusal is None
        (copy / "requirements.in").write_text("tqdm\n", encoding="utf-8")
        refusal = read_spec(declaration, files).refusal
        assert refusal is not None
        assert "does not match requirements.in" in refusal.message
