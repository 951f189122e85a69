"""A command with many options, whose help shows them in sections: what everybody needs stands first."""

from __future__ import annotations

from typing import Any

import click


class SectionedOption(click.Option):
    """An option of a section of the help, which says nothing of the range it must be in: an error does."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class SectionedCommand(click.Command):
    """Its help lists options by section, in the order in which sections are first met, and then the others."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        options.sort(key=lambda option: not isinstance(option, SectionedOption))
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in options:
            if record := option.get_help_record(ctx):
                section = option.section if isinstance(option, SectionedOption) else "Beside them"
                sections.setdefault(section, []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)
