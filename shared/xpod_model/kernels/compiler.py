"""LLVM IR on standard input becomes an object file for this very CPU on standard output.

A process of its own, so that LLVM's 70 MB are nobody else's. It knows llvmlite, and not what is compiled.
"""

import subprocess
import sys

OPTIMISE = 2
SECONDS = 120


def compiled(text: str) -> bytes:
    """The object file for a module's text. Raises RuntimeError with what the compiler said."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=text.encode(),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"kernels do not compile: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def main() -> None:
    """Compile standard input."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=OPTIMISE,
        reloc="static",
        codemodel="large",
    )
    module = llvm.parse_assembly(sys.stdin.read())
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=OPTIMISE)
    builder = llvm.create_pass_builder(target, tuning)
    builder.getModulePassManager().run(module, builder)
    sys.stdout.buffer.write(target.emit_object(module))


if __name__ == "__main__":
    main()
