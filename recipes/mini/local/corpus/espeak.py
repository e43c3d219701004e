"""espeak-ng through ctypes: speech together with the time at which each of its phonemes begins."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from acoustic.errors import DataError

# Constants of espeak-ng's speak_lib.h.
AUDIO_OUTPUT_RETRIEVAL = 1
INITIALIZE_PHONEME_EVENTS_IPA = 0x0001 | 0x0002
EVENT_LIST_TERMINATED = 0
EVENT_PHONEME = 7
POS_CHARACTER = 1
CHARS_UTF8 = 1
PARAMETER_RATE, PARAMETER_PITCH, PARAMETER_RANGE = 1, 3, 4
NOISE_SEED = 1

STRESS_MARKS = "ˈˌ"


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class PhonemeEvent:
    """The beginning of a phoneme.

    Attributes:
        ipa: its IPA name without stress marks; empty for pauses and transitional sounds.
        text_position: 1-based character position in the text of the word it belongs to.
        sample: position in the audio.
    """

    ipa: str
    text_position: int
    sample: int


class Synthesizer:
    """The espeak-ng library, loaded once per process (it keeps global state and cannot be initialised twice).

    Attributes:
        sample_rate: of the audio, in Hz.
    """

    def __init__(self) -> None:
        """Load the library and its voices from the espeakng-loader package.

        Raises:
            DataError: the library refuses to start.
        """
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path()
        self.sample_rate: int = self._library.espeak_Initialize(
            AUDIO_OUTPUT_RETRIEVAL, 0, data.encode(), INITIALIZE_PHONEME_EVENTS_IPA
        )
        if self.sample_rate <= 0:
            raise DataError("espeak-ng cannot be initialised", path=data, remedy="reinstall espeakng-loader")
        # Breath in a voice is noise, which the library seeds with the time of day.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(NOISE_SEED))
        self._chunks: list[NDArray[np.int16]] = []
        self._events: list[PhonemeEvent] = []
        self._callback = _Callback(self._receive)  # a reference must outlive the calls that use it
        self._library.espeak_SetSynthCallback(self._callback)

    def set_voice(self, name: str, pitch: int, pitch_range: int) -> None:
        """Choose the voice.

        Args:
            name: language and variant, `en-us+m3`.
            pitch, pitch_range: 0 to 100, 50 being the voice's own.

        Raises:
            DataError: there is no such voice.
        """
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise DataError(f"espeak-ng has no voice {name}", remedy="install espeakng-loader >= 0.2.4")
        self._library.espeak_SetParameter(PARAMETER_PITCH, pitch, 0)
        self._library.espeak_SetParameter(PARAMETER_RANGE, pitch_range, 0)

    def say(self, text: str, rate: int) -> tuple[NDArray[np.int16], list[PhonemeEvent]]:
        """Speak `text` at `rate` words per minute: int16 [num_samples] and the phonemes in order.

        Raises:
            DataError: nothing was synthesised.
        """
        self._chunks, self._events = [], []
        self._library.espeak_SetParameter(PARAMETER_RATE, rate, 0)
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._chunks or not self._events:
            raise DataError(f"espeak-ng said nothing for {text!r}")
        return np.concatenate(self._chunks), self._events

    def _receive(self, wav: Any, num_samples: int, events: Any) -> int:
        """Called by the library with a piece of audio and the events in it; 0 asks it to go on."""
        if num_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(wav, (num_samples,)).copy())
        index = 0
        while events[index].type != EVENT_LIST_TERMINATED:
            event = events[index]
            if event.type == EVENT_PHONEME:
                # `id.string` stops at the first NUL, or is all eight bytes; a name cut there loses only its tail.
                ipa = event.id.string.decode("utf-8", errors="ignore").strip(STRESS_MARKS)
                self._events.append(PhonemeEvent(ipa, event.text_position, event.sample))
            index += 1
        return 0
