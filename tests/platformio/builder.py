"""The build script of every stand-in platform: compilers of this machine, settings from the stand-in's board file.

SCons runs it where PlatformIO would run the build script of the platform that it stands in for.
"""
# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors

from SCons.Script import AlwaysBuild, Default, DefaultEnvironment

env = DefaultEnvironment()
board = env.BoardConfig()
tools = board.get("build.stand_in")

env.Replace(
    AR=tools["prefix"] + "ar",
    AS=tools["prefix"] + "gcc",
    CC=tools["prefix"] + "gcc",
    CXX=tools["prefix"] + "g++",
    LINK=tools["prefix"] + "gcc",
    RANLIB=tools["prefix"] + "ranlib",
    SIZETOOL=tools["prefix"] + "size",
    PROGNAME="firmware",
    PROGSUFFIX=".elf",
    SIZECHECKCMD="$SIZETOOL -A -d $SOURCES",
    SIZEPROGREGEXP=r"^(?:\.flash)?(?:\.dram0)?\.(?:text|rodata|data|weights|dhn_weights)\s+(\d+).*",
    SIZEDATAREGEXP=r"^(?:\.dram0)?\.(?:data|bss|noinit)\s+(\d+).*",
    UPLOADCMD=tools["upload"],
)
env.Append(
    CCFLAGS=[*tools["flags"], "-Os", "-ffunction-sections", "-fdata-sections", "-Wall", "-Wextra", "-Werror"],
    CFLAGS=["-std=gnu11"],
    CXXFLAGS=["-std=gnu++11", "-fno-exceptions", "-fno-rtti"],
    CPPDEFINES=[tuple(d.split("=", 1)) if "=" in d else d for d in tools["defines"]],
    LINKFLAGS=[*tools["flags"], "-Wl,--gc-sections", *tools["link"]],
    ASFLAGS=tools["flags"],
)

program = env.BuildProgram()
if tools["finish"]:
    program = env.Command("$BUILD_DIR/firmware.bin", program, env.VerboseAction(tools["finish"], "Building $TARGET"))
Default(env.Alias("buildprog", program, program))
AlwaysBuild(env.Alias("upload", program, [env.VerboseAction("$UPLOADCMD", "Uploading $SOURCE")]))
