"""An exported library builds where it is meant to be used, without a warning, and computes what the twin computes."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from conftest import Call
from dhn_kit import __version__, resources
from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.hooks import ALWAYS, Bundle, HookSpec
from dhn_kit.kernels import load_architecture
from dhn_kit.library import KINDS, MARK, Kind, Library, export_library, runtime_library
from dhn_kit.pack import Pack, load_pack, pack
from dhn_kit.platformio_run import run_pio
from dhn_kit.source_set import pack_kernels, write_files
from dhn_kit.tflite_import import import_tflite
from dhn_kit.twin import Twin
from nets import residual_net
from pio_core import StandIn, StandInBoard, add_platform, make_core
from test_cli import assert_one_line
from test_runtime import exit_net

FW = Path(__file__).parent / "fw"
ARDUINO = FW / "stubs" / "arduino_stdio"
STRICT = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wundef")
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=soft")
#: Flavour of the pack to toolchain file and flags of a core that has it.
CORES = {
    "armv7em": ("arm-none-eabi.cmake", CORTEX_M4),
    "rv32imc": ("riscv64-unknown-elf.cmake", ("--specs=picolibc.specs", "-march=rv32imc", "-mabi=ilp32")),
    "xtensa": (
        "xtensa-lx106-elf.cmake",
        ("-mlongcalls", f"-I{resources.path('firmware') / 'port' / 'xtensa_sim' / 'libc'}"),
    ),
}
Int8 = npt.NDArray[np.int8]


@functools.cache
def packed(flavour: str = "ref") -> Pack:
    return pack(residual_net()[0], flavour)


@functools.cache
def inputs() -> Int8:
    return residual_net()[1].inputs(3)


def printed(out: str, count: int) -> Int8:
    return np.array(out.split(), np.int8).reshape(count, -1)


def run(command: Sequence[str | Path], given: bytes | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run([*map(str, command)], input=given, capture_output=True, cwd=cwd, timeout=120)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


def tool(name: str) -> Path:
    beside = Path(sys.executable).parent / name
    return beside if beside.is_file() else Path(shutil.which(name) or name)


def build(
    source: Path, folder: Path, toolchain: str = "", flags: Sequence[str] = (), target: str = "all", **more: str
) -> None:
    """Configures and builds with CMake; warnings are errors."""
    values = {"CMAKE_MAKE_PROGRAM": tool("ninja"), "CMAKE_C_FLAGS": " ".join((*STRICT, *flags)), **more}
    if toolchain:
        values["CMAKE_TOOLCHAIN_FILE"] = resources.path("cmake") / "toolchains" / toolchain
    defined = [f"-D{name}={value}" for name, value in values.items()]
    run([tool("cmake"), "-S", source, "-B", folder, "-G", "Ninja", *defined])
    run([tool("cmake"), "--build", folder, "--target", target])


def on_an_emulated_m4(elf: Path, x: Int8) -> Int8:
    """What a program prints that reads the inputs from standard input."""
    machine = ("qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none")
    return printed(run([*machine, "-semihosting", "-kernel", elf], x.tobytes()), len(x))


@pytest.fixture(scope="module")
def semihosting(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What links a program with newlib for the emulator."""
    vectors = tmp_path_factory.mktemp("semihosting") / "vectors.o"
    run(["arm-none-eabi-gcc", *CORTEX_M4, "-c", FW / "semihosting.c", "-o", vectors])
    return ["--specs=rdimon.specs", "-T", str(FW / "semihosting.ld"), str(vectors)]


def assert_every_file_is_optimised(commands: Path, main: Pack) -> None:
    """Kernels of the network for speed, all others for size, whatever the project's own level is."""
    listed = {Path(c["file"]): c["command"] for c in json.loads(commands.read_text()) if "/src/" in c["file"]}
    level = {f"{p.parent.name}/{p.name}": re.findall(r" -O\w+", text)[-1] for p, text in listed.items()}
    kernels, hooks = pack_kernels(main.data, None, "")
    assert {f"{k.arch}/{k.source}" for k in kernels} == {place for place, found in level.items() if found == " -O2"}
    assert level["runtime/run.c"] == level["src/model.c"] == " -Os" and hooks
    assert all("-fwrapv" in text for text in listed.values())


def test_the_example_computes_on_this_computer_what_the_twin_computes(tmp_path: Path) -> None:
    export_library("cmake", packed(), tmp_path / "lib")
    more = {"CMAKE_EXPORT_COMPILE_COMMANDS": "ON", "CMAKE_BUILD_TYPE": "Release"}
    build(tmp_path / "lib", tmp_path / "build", **more)
    seen = printed(run([tmp_path / "build/examples/classify/classify"], inputs().tobytes()), len(inputs()))
    assert (seen == Twin(packed()).run(inputs()).output).all()
    assert_every_file_is_optimised(tmp_path / "build/compile_commands.json", packed())


@pytest.mark.reference
def test_a_reference_network_computes_on_an_emulated_core_what_the_twin_computes(
    tmp_path: Path, semihosting: list[str], reference_dir: Path
) -> None:
    main = pack(import_tflite(reference_dir / "models" / "ic_resnet8_int8.tflite"), "armv7em")
    x = np.random.default_rng(3).integers(-128, 128, (2, 32, 32, 3)).astype(np.int8)
    export_library("cmake", main, tmp_path / "lib", "ic")
    flags = " ".join(semihosting)
    build(tmp_path / "lib", tmp_path / "build", *CORES["armv7em"], CMAKE_EXE_LINKER_FLAGS=flags)
    seen = on_an_emulated_m4(tmp_path / "build/examples/classify/classify", x)
    assert (seen == Twin(main).run(x).output).all()


@pytest.mark.parametrize("flavour", ["rv32imc", "xtensa"])
def test_a_packs_library_builds_for_its_core(flavour: str, tmp_path: Path) -> None:
    export_library("cmake", packed(flavour), tmp_path / "lib")
    build(tmp_path / "lib", tmp_path / "build", *CORES[flavour], "dhn_model")
    assert (tmp_path / "build" / "libdhn_model.a").is_file()


def sketch(library: Path, sources: Sequence[Path], flags: Sequence[str], compiler: str) -> list[str]:
    """Object files as Arduino makes them: src/ alone on the include path, the sketch as C++ with its prototypes."""
    folder = library.parent / "objects"
    folder.mkdir()
    objects = []
    for i, file in enumerate([*sorted(library.glob("src/**/*.c")), *sources]):
        cpp = file.suffix == ".cpp"
        language = (
            [compiler.replace("gcc", "g++"), "-std=gnu++11", "-fno-exceptions", "-fno-rtti"]
            if cpp
            else [compiler, "-std=gnu11"]
        )
        include = [f"-I{library / 'src'}", f"-I{ARDUINO}"]
        objects.append(str(folder / f"{i}.o"))
        command = [*language, *flags, "-Os", "-ffunction-sections", "-Wall", "-Wextra", "-Werror", *include]
        run([*command, "-DARDUINO=10819", "-c", file, "-o", objects[-1]])
    return objects


def test_the_arduino_sketch_computes_on_an_emulated_core_what_the_twin_computes(
    tmp_path: Path, semihosting: list[str]
) -> None:
    """Arduino's core is a stand-in; it has no options per file, so files carry their own."""
    lib = export_library("arduino", packed("armv7em"), tmp_path / "lib", "gestures")
    ino = (lib.folder / "examples/Classify/Classify.ino").read_text()
    (tmp_path / "Classify.cpp").write_text("#include <Arduino.h>\nvoid setup();\nvoid loop();\n#line 1\n" + ino)
    sources = [tmp_path / "Classify.cpp", ARDUINO / "arduino.cpp"]
    objects = sketch(lib.folder, sources, CORTEX_M4, "arm-none-eabi-gcc")
    run(["arm-none-eabi-gcc", *CORTEX_M4, *objects, *semihosting, "-o", tmp_path / "sketch.elf"])
    assert (on_an_emulated_m4(tmp_path / "sketch.elf", inputs()) == Twin(packed("armv7em")).run(inputs()).output).all()
    kernel = (lib.folder / "src/armv7em/conv_s8.c").read_text().splitlines()
    assert kernel[1].startswith("/* SPDX") and kernel[3] == '#pragma GCC optimize("O2", "no-schedule-insns", "wrapv")'
    assert 'optimize("Os", "wrapv")' in (lib.folder / "src/runtime/run.c").read_text()


def test_library_properties_follow_arduinos_specification(tmp_path: Path) -> None:
    lib = export_library("arduino", packed(), tmp_path / "lib", "kws")
    lines = (lib.folder / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    required = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert required <= set(fields) and fields["version"] == __version__ and fields["category"] == "Data Processing"
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", fields["name"])
    assert fields["dot_a_linkage"] == "true" and (lib.folder / "src" / fields["includes"]).is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])


def test_platformios_own_packer_accepts_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fetch the list of licences from the network; a stand-in list has the one that is named."""
    from platformio.package.manifest.schema import ManifestSchema
    from platformio.package.pack import PackagePacker

    monkeypatch.setenv("PLATFORMIO_CORE_DIR", str(tmp_path / "core"))
    monkeypatch.setenv("PLATFORMIO_SETTING_ENABLE_TELEMETRY", "No")
    licences = {"licenses": [{"licenseId": "Apache-2.0"}]}
    monkeypatch.setattr(ManifestSchema, "load_spdx_licenses", staticmethod(lambda: licences))
    lib = export_library("platformio", packed(), tmp_path / "lib", "kws")
    packet = PackagePacker(str(lib.folder)).pack(str(tmp_path / "lib.tar.gz"))
    names = run(["tar", "-tzf", packet]).split()
    assert {"library.json", "src/kws.h", "src/dhn.h", "src/kws_pack.c", "LICENSE"} <= set(names)


def test_pio_run_builds_the_example_with_a_stand_in_for_its_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project as it was exported; platform, compiler and Arduino's core are stand-ins of this computer."""
    core = make_core(tmp_path / "core")
    stub = tmp_path / "arduino.o"
    run(["g++", "-fno-exceptions", "-fno-rtti", f"-I{ARDUINO}", "-c", ARDUINO / "arduino.cpp", "-o", stub])
    tools = StandIn("", flags=[f"-I{ARDUINO}"], defines=["ARDUINO=10819"], link=[str(stub)])
    add_platform(core, "espressif32", {"esp32dev": StandInBoard("esp32", 240_000_000, 327_680, 4 << 20, tools=tools)})
    monkeypatch.setenv("PLATFORMIO_CORE_DIR", str(core))
    lib = export_library("platformio", packed(), tmp_path / "lib", "kws")
    code, text = run_pio(["run"], lib.folder / "examples" / "classify", timeout=120)
    assert code == 0, text
    program = lib.folder / "examples/classify/.pio/build/esp32dev/firmware.elf"
    seen = printed(run([program], inputs().tobytes()), len(inputs()))
    assert (seen == Twin(packed()).run(inputs()).output).all()


def test_the_runtime_alone_is_a_library_for_generated_projects(tmp_path: Path) -> None:
    """Here with vector kernels, whose intrinsics must bear the optimisation that each file asks for."""
    files = runtime_library((load_architecture("mve").kernels, ()))
    manifest = json.loads(files["library.json"])
    assert manifest["name"] == "dhn" and manifest["headers"] == ["dhn.h"]
    assert "src/runtime/run.c" in files and not any("model" in place for place in files)
    write_files(tmp_path, files)
    sources = sorted(tmp_path.rglob("*.c"))
    core = ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard")
    run(["arm-none-eabi-gcc", *core, "-std=c99", "-Os", *STRICT, f"-I{tmp_path / 'src'}", "-c", *sources], cwd=tmp_path)


#: Stand-ins for what ESP-IDF and Zephyr define, and how each takes a library in.
STAND_INS: dict[Kind, str] = {
    "espidf": """
macro(idf_component_register)
  cmake_parse_arguments(_standin "" "" "SRCS;INCLUDE_DIRS" ${ARGN})
  get_filename_component(COMPONENT_LIB ${CMAKE_CURRENT_LIST_DIR} NAME)
  add_library(${COMPONENT_LIB} STATIC ${_standin_SRCS})
  target_include_directories(${COMPONENT_LIB} PUBLIC ${_standin_INCLUDE_DIRS})
  target_link_libraries(everything INTERFACE ${COMPONENT_LIB})
  if(COMPONENT_LIB STREQUAL main)
    target_link_libraries(main PRIVATE lib)
  endif()
endmacro()
add_subdirectory(lib)
add_subdirectory(lib/examples/classify/main)
""",
    "zephyr": """
function(zephyr_include_directories)
  target_include_directories(everything INTERFACE ${ARGN})
endfunction()
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
  add_library(${name} STATIC)
  target_link_libraries(${name} PRIVATE everything)
  set_property(GLOBAL PROPERTY standin_library ${name})
endmacro()
function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
function(zephyr_library_compile_options)
  target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
file(STRINGS lib/examples/classify/prj.conf settings)
foreach(setting ${settings})
  string(REPLACE "=" ";" pair ${setting})
  set(${pair})
endforeach()
add_subdirectory(lib/zephyr)
get_property(name GLOBAL PROPERTY standin_library)
add_library(main STATIC lib/examples/classify/src/main.c)
target_link_libraries(main PRIVATE everything ${name})
target_link_libraries(everything INTERFACE main)
""",
}


@pytest.mark.parametrize("kind", STAND_INS)
def test_the_example_of_an_operating_system_runs_with_a_stand_in_for_its_build(kind: Kind, tmp_path: Path) -> None:
    export_library(kind, packed(), tmp_path / "lib")
    head = "cmake_minimum_required(VERSION 3.22)\nproject(standin C)\nadd_library(everything INTERFACE)\n"
    tail = "add_executable(program start.c)\ntarget_link_libraries(program PRIVATE everything)\n"
    (tmp_path / "CMakeLists.txt").write_text(head + STAND_INS[kind] + tail)
    start = "void app_main(void);\nint main(void)\n{\n    app_main();\n    return 0;\n}\n"
    (tmp_path / "start.c").write_text(start if kind == "espidf" else "")
    build(tmp_path, tmp_path / "build")
    *values, said = run([tmp_path / "build" / "program"]).splitlines()
    quant = packed().tensors[packed().inputs[0].tensor].quant
    x = np.full_like(inputs()[:1], quant.zero_point if quant else 0)
    assert [int(v) for v in values] == Twin(packed()).run(x).output[0].tolist() and said == "no error"


def test_espressifs_own_component_manager_accepts_the_manifest(tmp_path: Path) -> None:
    from idf_component_tools.manager import ManifestManager

    folder = export_library("espidf", packed(), tmp_path / "lib", "kws").folder
    manifest = ManifestManager(str(folder), "kws").validate().load()
    assert str(manifest.version) == __version__ and manifest.license == "Apache-2.0"


def test_zephyrs_module_names_its_files(tmp_path: Path) -> None:
    zephyr = export_library("zephyr", packed(), tmp_path / "zephyr", "kws").folder
    module = (zephyr / "zephyr/module.yml").read_text()
    assert module == "name: dhn_kws\nbuild:\n  cmake: zephyr\n  kconfig: zephyr/Kconfig\n"
    assert (zephyr / "zephyr/CMakeLists.txt").is_file()
    assert "config DHN_KWS\n\tbool " in (zephyr / "zephyr/Kconfig").read_text()
    assert "CONFIG_DHN_KWS=y" in (zephyr / "examples/classify/prj.conf").read_text()


USER = """
#include <cstdio>
#include <cstring>
#include "big.h"
#include "tiny.h"
extern "C" { extern const unsigned char bundle[]; extern const unsigned bundle_bytes; }
static int run_both(const char *x)
{
    std::memcpy(big_input(0), x, BIG_INPUT_BYTES);
    std::memcpy(tiny_input(0), x, TINY_INPUT_BYTES);
    if (big_run() != DHN_OK || tiny_run() != DHN_OK)
        return 1;
    for (int i = 0; i < BIG_OUTPUT_BYTES; i++)
        std::printf("%d %d ", big_output(0)[i], tiny_output(0)[i]);
    std::printf("\\n");
    return 0;
}
int main()
{
    static char x[BIG_INPUT_BYTES];
    if (big_input(0) || big_output(0) || big_run() != DHN_ERR_ARGUMENT || big_attach(bundle, 4) != DHN_ERR_ARGUMENT)
        return 2;
    if (big_init() != DHN_OK || tiny_init() != DHN_OK || big_input(1) != nullptr)
        return 3;
    if (std::fread(x, sizeof x, 1, stdin) != 1 || run_both(x) || big_attach(bundle, bundle_bytes) != DHN_OK ||
        run_both(x) || big_attach(nullptr, 0) != DHN_OK || run_both(x))
        return 4;
    return big_network() == tiny_network() || dhn_header(big_network())->arena_bytes > BIG_ARENA_BYTES;
}
"""


def test_a_cpp_program_links_two_libraries_and_attaches_hooks(tmp_path: Path) -> None:
    other = pack(residual_net(seed=5)[0])
    export_library("cmake", packed(), tmp_path / "big", "big")
    export_library("cmake", other, tmp_path / "tiny", "tiny")
    data = pack_bundle(packed(), Bundle([HookSpec(2, "exit", exit_net(packed(), 2), [ALWAYS])], ["all"]))
    values = ",".join(map(str, data))
    bundle = "extern const unsigned char bundle[]; extern const unsigned bundle_bytes;\n"
    bundle += f"const unsigned char bundle[] __attribute__((aligned(4))) = {{{values}}};\n"
    (tmp_path / "bundle.c").write_text(bundle + f"const unsigned bundle_bytes = {len(data)};\n")
    (tmp_path / "user.cpp").write_text(USER)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(user C CXX)\nadd_subdirectory(big)\nadd_subdirectory(tiny)\n"
        "add_executable(user user.cpp bundle.c)\ntarget_compile_options(user PRIVATE -Wall -Wextra -Werror)\n"
        "target_link_libraries(user PRIVATE dhn::dhn dhn::tiny)\n"
    )
    build(tmp_path, tmp_path / "build")
    assert not (tmp_path / "build/big/examples").exists()
    x = inputs()[:1]
    rows = [np.array(line.split(), np.int8) for line in run([tmp_path / "build/user"], x.tobytes()).splitlines()]
    plain, gated = Twin(packed()).run(x).output[0], Twin(packed(), data).run(x).output[0]
    assert not np.array_equal(plain, gated)
    for row, expected in zip(rows, (plain, gated, plain), strict=True):
        assert (row[::2] == expected).all() and (row[1::2] == Twin(other).run(x).output[0]).all()


def header_values(lib: Library) -> dict[str, str]:
    text = (lib.folder / "src" / f"{lib.name}.h").read_text()
    return dict(re.findall(r"^#define (\w+) ([^ \n]+)", text, re.MULTILINE))


def test_the_header_says_what_the_pack_is(tmp_path: Path) -> None:
    lib = export_library("cmake", packed(), tmp_path / "lib", "Kws")
    values, main = header_values(lib), packed()
    tensor = main.tensors[main.inputs[0].tensor]
    assert tensor.quant
    assert values["KWS_HASH"] == f'"{main.hash}"' and int(values["KWS_PACK_BYTES"]) == len(main.data) == lib.pack_bytes
    assert int(values["KWS_ARENA_BYTES"]) == lib.arena_bytes >= main.arena_bytes
    shape = [int(values[f"KWS_INPUT_{side}"]) for side in ("HEIGHT", "WIDTH", "CHANNELS")]
    assert tuple(shape) == tensor.shape and int(values["KWS_INPUT_BYTES"]) == tensor.size
    assert float(values["KWS_INPUT_SCALE"].rstrip("f")) == pytest.approx(tensor.quant.scale, rel=1e-7)
    assert values["KWS_INPUT_ZERO_POINT"] == f"({tensor.quant.zero_point})"


def test_the_header_says_what_to_do_with_the_model_files_own_input(tmp_path: Path) -> None:
    main = pack(residual_net()[0])
    lib = export_library("cmake", main, tmp_path / "lib")
    assert "model file" not in (lib.folder / "src/model.h").read_text()
    port = main.inputs[0]
    port.user_shape, port.perm, port.scale, port.offset = (3, 8, 8), (1, 2, 0), 0.25, -1.0
    lib = export_library("cmake", main, tmp_path / "lib")
    text = (lib.folder / "src/model.h").read_text()
    assert "the model file's array (3, 8, 8) with its axes in the order (1, 2, 0)" in text
    assert "real value = 0.25 * the model file's value -1." in text


def test_a_network_of_any_name_is_text_in_all_files(tmp_path: Path) -> None:
    main = pack(residual_net()[0])
    main.name = '*/ "x\n\\'
    for kind in KINDS:
        lib = export_library(kind, main, tmp_path / kind)
        texts = [p.read_text() for p in lib.folder.rglob("*") if p.is_file() and "/src/" not in str(p)]
        assert not any('"x' in t or "'*/" in t for t in texts)
    json.loads((tmp_path / "platformio/library.json").read_text())
    run(["cc", *STRICT, "-fsyntax-only", *sorted((tmp_path / "cmake/src").glob("model*.c"))])


def test_the_same_pack_gives_the_same_folder_and_replaces_it(tmp_path: Path) -> None:
    first = export_library("zephyr", packed(), tmp_path / "lib")
    before = {p: p.read_bytes() for p in (tmp_path / "lib").rglob("*") if p.is_file()}
    (tmp_path / "lib" / "stray.c").write_text("")
    assert export_library("zephyr", packed(), tmp_path / "lib") == first
    assert {p: p.read_bytes() for p in (tmp_path / "lib").rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["lib"]
    assert {p.relative_to(tmp_path / "lib").as_posix() for p in before} == {*first.files, MARK}


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "main.c").write_text("int x;")
    (tmp_path / "file").write_text("")
    with pytest.raises(DhnError, match="own holds files that 'dhn-kit export' did not write; name another folder"):
        export_library("cmake", packed(), tmp_path / "own")
    with pytest.raises(DhnError, match="file is a file; name another folder"):
        export_library("cmake", packed(), tmp_path / "file")
    with pytest.raises(DhnError, match=r"cannot write .*; name another folder"):
        export_library("cmake", packed(), tmp_path / "file" / "lib")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "main.c", "own"]


@pytest.mark.parametrize("name", ["", "2d", "a-b", "x y", "dhn", "dhn_x", "a" * 41, "é"])
def test_a_name_that_no_c_function_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DhnError, match=r"no name for C functions|are the runtime's"):
        export_library("cmake", packed(), tmp_path / "lib", name)
    assert not (tmp_path / "lib").exists()


def test_the_command_writes_a_library_and_prints_its_memory(call: Call, tmp_path: Path) -> None:
    packed().save(tmp_path / "model.dhn")
    code, out, err = call("export", "model.dhn", "--as", "arduino", "--name", "kws")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"build/arduino: kws\.h, \d+ kernels, [\d,]+ bytes of constants, [\d,]+ bytes of arena\n", out)
    code, out, _ = call("export", "model.dhn", "--as", "cmake", "-o", "lib", "--json")
    assert code == 0 and json.loads(out)["arena_bytes"] >= load_pack(tmp_path / "model.dhn").arena_bytes


def test_mistakes_are_one_line_and_write_nothing(call: Call, tmp_path: Path) -> None:
    packed().save(tmp_path / "model.dhn")
    point = HookSpec(2, "exit", exit_net(packed(), 2), [ALWAYS])
    (tmp_path / "hooks.dhn").write_bytes(pack_bundle(packed(), Bundle([point], ["all"])))
    for words, arguments in (
        ("a library holds one network; name its pack", ("--as", "cmake")),
        ("--arch is for MicroPython", ("model.dhn", "--as", "cmake", "--arch", "armv7m")),
        ("no name for C functions", ("model.dhn", "--as", "cmake", "--name", "a-b")),
        ("hook", ("hooks.dhn", "--as", "cmake")),
        ("none.dhn does not exist", ("none.dhn", "--as", "cmake")),
    ):
        code, out, err = call("export", *arguments)
        assert (code, out) == (1, "")
        assert_one_line(err, words)
    assert not (tmp_path / "build").exists()
