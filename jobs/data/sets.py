"""The data sets: what each one is, where its home is, and which files of it must lie where. Loads no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.data import language, stories, tables
from jobs.data.images import cats_dogs
from jobs.data.tables import as_it_is
from jobs.errors import UnknownDataSet

GITHUB = "https://raw.githubusercontent.com"
MICROSOFT = "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F"
MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist")
SEABORN = f"{GITHUB}/mwaskom/seaborn-data/71e2436a092d714350de0fc409ca8a8714e7e78f"
KOGPT2 = "skt/kogpt2-base-v2"
KOGPT2_REVISION = "d0c0df48bf2b2c9350dd855021a5b216f560c0c7"


@dataclass(frozen=True, kw_only=True)
class Web:
    """A file at addresses that all give the same; the next is tried when one fails."""

    path: str  # where it is put for the conversion
    addresses: tuple[str, ...]
    checksum: str | None = None  # "sha256:…" or "md5:…"; none is known where the address names a commit
    size: int = 0  # bytes; 0: not known


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A file of a repository of the Hugging Face hub."""

    path: str  # in the repository, and where it is put for the conversion
    repository: str
    revision: str  # a commit; a branch only where there is a checksum
    checksum: str | None = None
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class File:
    """A file that must lie in a set's folder."""

    path: str  # "*" stands for any text: one such file at least
    checksum: str | None = None  # of the file as this project knows it; another is used as it is
    also: str | None = None  # another path that does as well


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A set of files in a folder of their own; without files it needs none."""

    name: str  # what `gridyard data get` takes
    summary: str
    home: str  # in words
    licence: str  # and whether it may be passed on
    folder: str = ""  # in the data folder
    files: tuple[File, ...] = ()
    sources: tuple[Web | Hub, ...] = ()
    convert: Callable[[Path, Path], None] = as_it_is  # from a folder of the sources to the set's folder
    note: str = ""  # how what is fetched may differ from what others have

    @property
    def size(self) -> int:
        """Bytes to download; 0: not known."""
        sizes = [source.size for source in self.sources]
        return sum(sizes) if all(sizes) else 0

    def missing(self, folder: Path) -> list[str]:
        """The files that do not lie in this folder."""
        return [file.path for file in self.files if not _lies(folder, file.path) and not _lies(folder, file.also)]


def _lies(folder: Path, path: str | None) -> bool:
    if path is None:
        return False
    return any(folder.glob(path)) if "*" in path else (folder / path).is_file()


def _mnist(name: str, md5: str, size: int) -> tuple[File, Web]:
    path, checksum = f"MNIST/raw/{name}.gz", f"md5:{md5}"
    addresses = tuple(f"{mirror}/{name}.gz" for mirror in MNIST)
    file = File(path=path, checksum=checksum, also=f"MNIST/raw/{name}")
    return file, Web(path=path, addresses=addresses, checksum=checksum, size=size)


def _one_file(path: str, address: str, sha256: str, size: int) -> tuple[tuple[File], tuple[Web]]:
    checksum = f"sha256:{sha256}"
    return (File(path=path, checksum=checksum),), (Web(path=path, addresses=(address,), checksum=checksum, size=size),)


_MNIST = [  # md5 as torchvision lists them
    _mnist("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
    _mnist("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432", 28_881),
    _mnist("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3", 1_648_877),
    _mnist("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c", 4_542),
]
_AUTO_MPG = _one_file(
    "mpg.csv", f"{SEABORN}/mpg.csv", "c14b8b855ea7ee86cb9736bf8caaf281c4685ca08826f3eb2acaccaaf40f0d5a", 21_222
)
_DIAMONDS = _one_file(
    "diamonds.csv",
    f"{SEABORN}/diamonds.csv",
    "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4",
    2_772_143,
)
_SHAKESPEARE = _one_file(
    "input.txt",
    f"{GITHUB}/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    1_115_394,
)


def _stories(name: str, sha256: str, size: int) -> Hub:
    path = f"stories260K/{name}"
    return Hub(path=path, repository="karpathy/tinyllamas", revision="main", checksum=f"sha256:{sha256}", size=size)


def _kogpt2(*paths: str) -> tuple[Hub, ...]:
    return tuple(Hub(path=path, repository=KOGPT2, revision=KOGPT2_REVISION) for path in paths)


_ALL = [
    DataSet(
        name="iris",
        summary="150 flowers, 4 measures, 3 kinds",
        home="comes with scikit-learn",
        licence="CC BY 4.0 (UCI)",
    ),
    DataSet(
        name="breast_cancer",
        summary="569 samples of tissue, 30 measures, malignant or benign",
        home="comes with scikit-learn",
        licence="CC BY 4.0 (UCI)",
    ),
    DataSet(
        name="digits",
        summary="1,797 handwritten digits, 8 × 8",
        home="comes with scikit-learn",
        licence="CC BY 4.0 (UCI)",
    ),
    DataSet(name="sine", summary="1,000 points of sin x", home="is computed", licence="none needed"),
    DataSet(
        name="mnist",
        summary="60,000 + 10,000 handwritten digits, 28 × 28, grey",
        home="the mirrors of torchvision",
        licence="CC BY-SA 3.0",
        folder="mnist",
        files=tuple(file for file, _ in _MNIST),
        sources=tuple(source for _, source in _MNIST),
    ),
    DataSet(
        name="cats_dogs",
        summary="12,500 photos of cats and 12,500 of dogs, shorter side 200 px",
        home="Microsoft (Asirra, Kaggle's Dogs vs. Cats)",
        licence="research use; not to be passed on",
        folder="cats-dogs",
        files=(File(path="train/cat.*.jpg"), File(path="train/dog.*.jpg")),
        sources=(
            Web(
                path="kagglecatsanddogs_5340.zip",
                addresses=(f"{MICROSOFT}/kagglecatsanddogs_5340.zip",),
                checksum="sha256:b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
                size=824_887_076,
            ),
        ),
        convert=cats_dogs,
        note="A photo keeps its number. Photos that cannot be read are left out.",
    ),
    DataSet(
        name="california_housing",
        summary="20,640 districts, 8 measures, median value of a house",
        home="the archive of scikit-learn's fetch_california_housing (StatLib, Pace & Barry 1997)",
        licence="none stated",
        folder="california-housing",
        files=(
            File(
                path="california_housing.csv",
                checksum="sha256:94ef369b909f5c725340b512b7c9a05c1550a554b6592d29303990e3ba521a1f",
            ),
        ),
        sources=(
            Web(
                path="cal_housing.tgz",
                addresses=("https://ndownloader.figshare.com/files/5976036",),
                checksum="sha256:aaa5c9a6afe2225cc2aed2723682ae403280c4a3695a2ddda4ffb5d8215ea681",
            ),
        ),
        convert=tables.california_housing,
    ),
    DataSet(
        name="auto_mpg",
        summary="398 cars, their consumption",
        home="seaborn-data on GitHub (UCI)",
        licence="CC BY 4.0 (UCI)",
        folder="auto-mpg",
        files=_AUTO_MPG[0],
        sources=_AUTO_MPG[1],
    ),
    DataSet(
        name="diamonds",
        summary="53,940 diamonds, their price in USD",
        home="seaborn-data on GitHub (ggplot2)",
        licence="MIT (ggplot2)",
        folder="diamonds",
        files=_DIAMONDS[0],
        sources=_DIAMONDS[1],
    ),
    DataSet(
        name="tiny_shakespeare",
        summary="1.1 million characters of Shakespeare",
        home="karpathy/char-rnn on GitHub",
        licence="public domain",
        folder="tinyshakespeare",
        files=_SHAKESPEARE[0],
        sources=_SHAKESPEARE[1],
    ),
    DataSet(
        name="korean_reviews",
        summary="2 million characters of Korean film reviews, one a line",
        home="e9t/nsmc on GitHub",
        licence="CC0 1.0",
        folder="nsmc",
        files=(File(path="corpus_ko.txt"),),
        sources=(
            Web(
                path="ratings_train.txt",
                addresses=(f"{GITHUB}/e9t/nsmc/cc0670e872d4ac27bfe36c87456783004b39ef6c/ratings_train.txt",),
            ),
        ),
        convert=language.korean_reviews,
        note="Made of ratings_train.txt. The file this project was tested with is of other reviews of the same home "
        "(its raw/ folder), so perplexities differ a little.",
    ),
    DataSet(
        name="stories260k",
        summary="a Llama of 260,032 parameters that writes children's stories, and its tokenizer",
        home="karpathy/tinyllamas on the Hugging Face hub",
        licence="MIT",
        folder="stories260k-hf",
        files=tuple(File(path=name) for name in ("config.json", "model.safetensors", "tokenizer.json")),
        sources=(
            _stories("stories260K.bin", "b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696", 0),
            _stories("tok512.bin", "037cb335abb25d1fa9e8ecae30ed2a3a8ace9302862ebcdc05d51a6bbb10c312", 0),
        ),
        convert=stories.stories260k,
    ),
    DataSet(
        name="kogpt2",
        summary="KoGPT2, a Korean GPT-2 of 125 million parameters, and its tokenizer",
        home=f"{KOGPT2} on the Hugging Face hub",
        licence="CC BY-NC-SA 4.0: not for commercial use",
        folder="kogpt2",
        files=tuple(File(path=name) for name in ("config.json", "model.safetensors", "tokenizer.json")),
        sources=_kogpt2("config.json", "pytorch_model.bin", "tokenizer.json"),
        convert=language.kogpt2,
        note="The weights are read as tensors only and written as safetensors.",
    ),
    DataSet(
        name="kogpt2_tokenizer",
        summary="KoGPT2's tokenizer alone, 51,200 pieces",
        home=f"{KOGPT2} on the Hugging Face hub",
        licence="CC BY-NC-SA 4.0: not for commercial use",
        folder="kogpt2-tokenizer",
        files=(File(path="tokenizer.json"), File(path="tokenizer_config.json")),
        sources=_kogpt2("tokenizer.json"),
        convert=language.kogpt2_tokenizer,
    ),
]
SETS = {found.name: found for found in _ALL}


def lookup(name: str) -> DataSet:
    """The set of this name.

    Raises:
        UnknownDataSet: there is none; the message has them all.
    """
    if name not in SETS:
        raise UnknownDataSet(name, SETS)
    return SETS[name]
