"""Bad input as one sentence: what Hydra and OmegaConf raise, in words that name the setting and its file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException, ValidationError

from stepwise.errors import ConfigError, StepwiseError
from stepwise.routers.own import lacking, unimported


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """End a program with one sentence and exit code 2 where its input is unusable."""
    try:
        yield
    except InstantiationException as error:  # Hydra wraps what a constructor raises
        if isinstance(error.__cause__, ImportError | TypeError):
            why = _misnamed(error)
        elif isinstance(error.__cause__, StepwiseError):
            why = str(error.__cause__)
        else:
            raise
    except StepwiseError as error:
        why = str(error)
    except OmegaConfBaseException as error:
        why = _sentence(error)
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, ValidationError):  # a value of the wrong type
            why = _sentence(cause)
        elif isinstance(cause, OmegaConfBaseException):  # a name that the settings do not have
            why = f"{str(error).splitlines()[0]} {str(cause).splitlines()[0]}."
        else:
            why = " ".join(str(error).partition("\nConfig search path:")[0].split())
    else:
        return
    print(f"{name}: {why}", file=sys.stderr)
    sys.exit(2)


def origin(key: str) -> str:
    """A setting, and the file that it comes from where a group was chosen for it."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    for group, choice in choices.items():
        folder, _, package = group.partition("@")
        if choice and f"{key}.".startswith(f"{package or folder.replace('/', '.')}."):
            return f"{key} (configs/{folder}/{choice}.yaml)"
    return key


def check_groups(arguments: Sequence[str], configs: Path) -> None:
    """Refuse a number or null where one of a group's files has to be named: Hydra would end in a traceback.

    Raises:
        ConfigError: naming the group's files.
    """
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        files = sorted(path.stem for path in (configs / key.partition("@")[0]).glob("*.yaml"))
        if key and files and _is_no_name(value):
            raise ConfigError(
                f"{key} must be one of {', '.join(files)}, or {key}.SETTING=VALUE, not {value}."
            )


def _is_no_name(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false", "null")
    return True


def _misnamed(error: InstantiationException) -> str:
    """A ``_target_`` that cannot be imported, or does not take what the file gives it."""
    key, cause = str(error).partition("\nfull_key: ")[2], error.__cause__
    if isinstance(cause, TypeError):
        return f"{origin(key)}: {cause}."
    why: BaseException | None = cause
    while why and why.__cause__:
        why = why.__cause__
    module, _, wanted = str(getattr(why, "name", "")).rpartition(".")
    reason = lacking(module, wanted) if module in sys.modules else unimported(why or error)
    return f"{origin(key)}: _target_ cannot be imported: {reason}"


def _sentence(error: OmegaConfBaseException) -> str:
    return f"{error.full_key or 'configuration'}: {str(error).splitlines()[0]}"
