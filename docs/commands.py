"""The command line's reference, made from the commands themselves when the site is built."""

from __future__ import annotations

from typing import Any


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the commands where the page asks for them."""
    return markdown.replace("<!-- commands -->", _reference()) if "<!-- commands -->" in markdown else markdown


def _reference() -> str:
    import typer.main

    from ssnr.cli.app import command_line

    root = typer.main.get_command(command_line())
    lines: list[str] = []
    for name, command in sorted(root.commands.items()):
        lines += _command(f"ssnr {name}", command)
    return "\n".join(lines)


def _command(name: str, command: Any) -> list[str]:
    lines = [f"## `{name}`", "", (command.help or "").strip(), ""]
    for inner, own in sorted(getattr(command, "commands", {}).items()):
        lines += _command(f"{name} {inner}", own)
    rows = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = ", ".join(f"`{text}`" for text in (*parameter.opts, *parameter.secondary_opts))
        shown = names if parameter.param_type_name == "option" else f"`{(parameter.metavar or parameter.name).upper()}`"
        rows.append(
            f"| {shown} | {' '.join((getattr(parameter, 'help', None) or '').split()).replace('|', chr(92) + '|')} |"
        )
    return [*lines, "| | |", "|---|---|", *rows, ""] if rows else lines
