"""The chat in a terminal: a prompt, answers as Markdown, and a handful of commands."""

from rich.console import Console

from chatkit.cli.terminal import MarkdownTerminal
from chatkit.errors import ChatkitError
from chatkit.reply import Reply
from chatkit.session import Chat

HELP = """\
/retry          ask the last question again
/edit TEXT      ask something else in its place
/system TEXT    set the system prompt; without text, show it
/save FILE      write the conversation to a file
/help           show this
/quit           leave, as Ctrl-D does"""


class TerminalChat:
    """Reads lines and answers them until the person leaves.

    Args:
        chat: the conversation.
    """

    def __init__(self, chat: Chat) -> None:
        self._console = Console(highlight=False)
        self._chat = chat
        chat.display = MarkdownTerminal(self._console)

    def run(self) -> None:
        """Talk until /quit or Ctrl-D; a known error is shown and the talk goes on."""
        # Importing it gives `input` its line editing and history.
        import readline  # noqa: F401

        self._console.print(f"[bold]{self._chat.model.name}[/]  [dim]/help lists the commands[/]")
        while (line := self._read()) is not None:
            try:
                if not self._obey(line):
                    return
            except (ChatkitError, OSError) as error:
                self._console.print(f"error: {error}", style="red", markup=False)
            except KeyboardInterrupt:
                self._console.print("[dim]stopped[/]")

    def _read(self) -> str | None:
        while True:
            try:
                return input("\n> ").strip()
            except KeyboardInterrupt:
                self._console.print("\n[dim]/quit or Ctrl-D leaves[/]")
            except EOFError:
                self._console.print()
                return None

    def _obey(self, line: str) -> bool:
        """Do what a line says; False means leave."""
        if not line.startswith("/"):
            if line:
                self._after(self._chat.send(line))
            return True
        command, _, argument = line.partition(" ")
        match command:
            case "/quit":
                return False
            case "/retry":
                self._after(self._chat.retry())
            case "/edit":
                self._after(self._chat.edit(argument))
            case "/system":
                self._system(argument.strip())
            case "/save":
                self._save(argument.strip())
            case "/help":
                self._console.print(HELP, markup=False)
            case _:
                self._console.print(f"There is no command {command}.\n{HELP}", markup=False)
        return True

    def _after(self, reply: Reply) -> None:
        if reply.usage is None:
            self._console.print("[dim]stopped[/]")
            return
        usage, used = reply.usage, self._chat.tokens
        self._console.print(
            f"[dim]{usage.completion_tokens} tokens, {usage.tokens_per_second:.0f} tokens/s; "
            f"the conversation has {used} tokens[/]"
        )

    def _system(self, text: str) -> None:
        if text:
            self._chat.system = text
        self._console.print(f"system: {self._chat.system or '(its own)'}", markup=False)

    def _save(self, file: str) -> None:
        if not file:
            self._console.print("Name the file: /save FILE")
            return
        self._chat.save(file)
        self._console.print(f"Saved to {file}.", markup=False)
