"""The Python API in one place: load a trained model, get its loglikes, decode them, score the words.

from acoustic.api import AcousticModel, Decoder, DecoderOptions, TransitionModel, read_audio

model = AcousticModel.load("exp/relu")
samples, sample_frequency = read_audio("hello.wav")
loglikes = model.loglikes_of_waveform(samples, sample_frequency)  # [frames, pdfs]
decoder = Decoder(TransitionModel.read("exp/tri3/final.mdl"), "exp/tri3/graph/HCLG.fst", DecoderOptions())
word_ids = decoder.decode(loglikes.numpy()).words
"""

from acoustic.decode.decoder import Decoder, DecoderOptions, Result
from acoustic.decode.forward import AcousticModel
from acoustic.decode.wer import score
from acoustic.features.audio import read_audio
from acoustic.features.fbank import Fbank, FbankOptions
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.kaldi.alignments import read_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.tables import RandomAccessTable, TableWriter, read_table
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.nn.bundle import Bundle, load_bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

__all__ = [
    "AcousticModel",
    "Bundle",
    "ClassifierConfig",
    "DataDir",
    "DecisionTree",
    "Decoder",
    "DecoderOptions",
    "Fbank",
    "FbankOptions",
    "Frontend",
    "FrontendConfig",
    "RandomAccessTable",
    "Result",
    "SenoneClassifier",
    "SymbolTable",
    "TableWriter",
    "TransitionModel",
    "load_bundle",
    "read_alignments",
    "read_audio",
    "read_table",
    "score",
]
