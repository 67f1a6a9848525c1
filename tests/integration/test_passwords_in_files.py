"""Whatever a password holds, a file's reference to it is one part of the connection string, and is shown nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pgsluice import config
from pgsluice.config import references
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint

PASSWORDS = (
    "wr:ite@2", "p%41w", "per%", "it's", "'", "''", '"quoted"', "back\\slash", "\\", "two words", " ends ", "tab\there",
    "sl/ash?query#mark", "am&p=password=x", "dol$lar ${NOT} $$", "br[ack]et,comma;", "plus+é가", "pass@@word:/", "x",
)  # fmt: skip
ROLE = "of_a_file"
#: The forms of a connection string, each around a reference to the password.
FORMS = {
    "URI": "postgresql://{role}:{ref}@127.0.0.1:{port}/postgres",
    "URI, as a parameter": "postgresql://{role}@127.0.0.1:{port}/postgres?password={ref}&connect_timeout=5",
    "conninfo": "host=127.0.0.1 port={port} password={ref} user={role} dbname=postgres",
    "conninfo, last": "host=127.0.0.1 port={port} user={role} dbname=postgres password = {ref}",
    "conninfo, in quotes": "host=127.0.0.1 port={port} password='{ref}' user={role} dbname=postgres",
    "behind another reference": "${{SERVER}} password={ref}",
}


@pytest.fixture
def login(source_cluster: Cluster) -> Iterator[str]:
    with psycopg.connect(source_cluster.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
        try:
            yield source_cluster.dsn
        finally:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(ROLE)))


@pytest.mark.parametrize("kind", ["variable", "file", "program"])
@pytest.mark.parametrize("form", FORMS)
def test_a_referenced_password_is_taken_as_it_is(
    source_cluster: Cluster, login: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, kind: str
) -> None:
    secret, file = tmp_path / "secret", tmp_path / "pgsluice.yaml"
    reference = {"variable": "${PW}", "file": f"${{file:{secret}}}", "program": f"${{cmd:cat {secret}}}"}[kind]
    monkeypatch.setenv("SERVER", f"host=127.0.0.1 port={source_cluster.port} user={ROLE} dbname=postgres")
    dsn = FORMS[form].format(role=ROLE, ref=reference, port=source_cluster.port)
    file.write_text(f'target: "{dsn}"\ntables: {{s.t: {{}}}}\n')
    for password in PASSWORDS:
        with psycopg.connect(login, autocommit=True) as admin:
            admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(password)))
        monkeypatch.setenv("PW", password)
        secret.write_text(password)
        secret.chmod(0o600)
        known = config.load(file)
        assert known.target is not None
        with Endpoint(known.target, read_only=True).open() as session:
            assert session.role == ROLE, password
        shown = references.shown(dsn, is_dsn=True)
        assert "***" in shown
        assert (
            password not in shown.replace(f"{ROLE}", "").replace("postgres", "").replace("password", "")
            or password == "'"
        )


@pytest.mark.parametrize(
    ("text", "values", "means"),
    [
        ("postgresql://${A}:${B}/${C}", ("h1", "5433", "a/b"), {"host": "h1", "port": "5433", "dbname": "a/b"}),
        ("postgresql://u@${A}/d", ("h1:1,h2:2", "", ""), {"host": "h1,h2", "port": "1,2"}),
        (
            "postgresql://${A}@h/d?${B}",
            ("me@corp", "sslmode=require&port=7", ""),
            {"user": "me@corp", "sslmode": "require"},
        ),
        ("${A}", ("postgresql://u:p%40@h/d", "", ""), {"password": "p@"}),
        ("${A}?application_name=${B}", ("postgresql://h/d", "a&b", ""), {"application_name": "a&b"}),
        (
            "host=h user=a${A}b password=${B} dbname=d",
            (" ' ", "", ""),
            {"user": "a ' b", "password": "", "dbname": "d"},
        ),
        ("service=${A}", ("my shop", "", ""), {"service": "my shop"}),
    ],
)
def test_every_part_may_be_a_reference(
    monkeypatch: pytest.MonkeyPatch, text: str, values: tuple[str, ...], means: dict[str, str]
) -> None:
    for name, value in zip("ABC", values, strict=True):
        monkeypatch.setenv(name, value)
    found = conninfo_to_dict(references.resolve(text, lambda _: None, is_dsn=True))
    assert means.items() <= {name: value or "" for name, value in found.items()}.items()
