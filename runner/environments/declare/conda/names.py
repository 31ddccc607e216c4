"""Maps names of conda packages to the Python index, and lists conda packages that are not Python packages.

Names are canonical (PEP 503). A package that is not listed has the same name in both.
"""

PYTHON_NAMES = {
    "antlr-python-runtime": "antlr4-python3-runtime",
    "appnope": "appnope ; sys_platform == 'darwin'",
    "astropy-base": "astropy",
    "black-jupyter": "black",
    "brotli-python": "brotli",
    "confluent-kafka-python": "confluent-kafka",
    "cupy-core": "cupy",
    "dask-core": "dask",
    "django-rest-framework": "djangorestframework",
    "docker-py": "docker",
    "faiss": "faiss-cpu",
    "geopandas-base": "geopandas",
    "google-api-core-grpc": "google-api-core",
    "google-cloud-bigquery-core": "google-cloud-bigquery",
    "gql-with-all": "gql",
    "h2o-py": "h2o",
    "ibis-framework-core": "ibis-framework",
    "jupyter-lsp-python": "jupyter-lsp",
    "keras-base": "keras",
    "keras-gpu": "keras",
    "matplotlib-base": "matplotlib",
    "modin-all": "modin",
    "modin-core": "modin",
    "msgpack-python": "msgpack",
    "numpy-base": "numpy",
    "nvidia-ml": "nvidia-ml-py",
    "opencv": "opencv-python-headless",
    "psycopg2": "psycopg2-binary",
    "py-opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "py-xgboost-gpu": "xgboost",
    "pyarrow-all": "pyarrow",
    "pyarrow-core": "pyarrow",
    "pybind11-global": "pybind11",
    "pyct-core": "pyct",
    "pyg": "torch-geometric",
    "pymc-base": "pymc",
    "pyqt": "pyqt5",
    "pystan2": "pystan",
    "pytables": "tables",
    "python-annoy": "annoy",
    "python-blosc": "blosc",
    "python-clang": "libclang",
    "python-confluent-kafka": "confluent-kafka",
    "python-duckdb": "duckdb",
    "python-fastjsonschema": "fastjsonschema",
    "python-flatbuffers": "flatbuffers",
    "python-graphviz": "graphviz",
    "python-gssapi": "gssapi",
    "python-hdfs": "hdfs",
    "python-igraph": "igraph",
    "python-isal": "isal",
    "python-kaleido": "kaleido",
    "python-kubernetes": "kubernetes",
    "python-libarchive-c": "libarchive-c",
    "python-lmdb": "lmdb",
    "python-lz4": "lz4",
    "python-tzdata": "tzdata",
    "python-wget": "wget",
    "python-xxhash": "xxhash",
    "python-zstd": "zstd",
    "pytorch": "torch",
    "pytorch-cluster": "torch-cluster",
    "pytorch-cpu": "torch",
    "pytorch-geometric": "torch-geometric",
    "pytorch-gpu": "torch",
    "pytorch-scatter": "torch-scatter",
    "pytorch-sparse": "torch-sparse",
    "pytorch-spline-conv": "torch-spline-conv",
    "pywin32": "pywin32 ; sys_platform == 'win32'",
    "pywin32-on-windows": "pywin32 ; sys_platform == 'win32'",
    "pywinpty": "pywinpty ; sys_platform == 'win32'",
    "ray-all": "ray",
    "ray-core": "ray",
    "ray-data": "ray[data]",
    "ray-default": "ray[default]",
    "ray-rllib": "ray[rllib]",
    "ray-serve": "ray[serve]",
    "ray-train": "ray[train]",
    "ray-tune": "ray[tune]",
    "redis-py": "redis",
    "ruamel-yaml-conda": "ruamel.yaml",
    "seaborn-base": "seaborn",
    "sklearn": "scikit-learn",
    "sqlalchemy-base": "sqlalchemy",
    "tensorboard-base": "tensorboard",
    "tensorflow-base": "tensorflow",
    "tensorflow-eigen": "tensorflow",
    "tensorflow-gpu": "tensorflow",
    "tensorflow-gpu-base": "tensorflow",
    "tensorflow-mkl": "tensorflow",
    "torchaudio-cpu": "torchaudio",
    "torchtext-cpu": "torchtext",
    "torchvision-cpu": "torchvision",
    "torchvision-gpu": "torchvision",
    "uvicorn-standard": "uvicorn[standard]",
    "vtk-base": "vtk",
    "win-inet-pton": "win-inet-pton ; sys_platform == 'win32'",
    "win-unicode-console": "win-unicode-console ; sys_platform == 'win32'",
    "wincertstore": "wincertstore ; sys_platform == 'win32'",
    "xgboost-cpu": "xgboost",
    "xgboost-gpu": "xgboost",
}
"""Packages with another name on the Python index; a marker limits a package to one operating system."""

PREFIX_ONLY = frozenset({"opencv-python", "opencv-python-headless"})
"""Packages whose versions have one more number on the Python index than in conda."""

_LIBRARIES = """
-anaconda-depends -ipyw-jlab-nb-ext-conf -libgcc-mutex -openmp-mutex -py-xgboost-mutex
-sysroot-linux-64-curr-repodata-hack -tflow-select abseil-cpp alsa-lib aom arpack arrow-cpp arrow-cpp-proc
at-spi2-atk at-spi2-core atk-1-0 attr aws-c-auth aws-c-cal aws-c-common aws-c-compression aws-c-event-stream
aws-c-http aws-c-io aws-c-mqtt aws-c-s3 aws-c-sdkutils aws-checksums aws-crt-cpp aws-sdk-cpp azure-core-cpp
azure-identity-cpp azure-storage-blobs-cpp azure-storage-common-cpp azure-storage-files-datalake-cpp
binutils-impl-linux-64 blas blas-devel blosc boost-cpp brotli-bin brunsli bzip2 c-ares c-blosc2 ca-certificates
cairo cctools cctools-osx-64 cfitsio charls console-shortcut console-shortcut-miniconda cpuonly cuda-cccl
cuda-command-line-tools cuda-compiler cuda-cudart cuda-cudart-dev cuda-cuobjdump cuda-cupti cuda-cuxxfilt
cuda-driver-dev cuda-libraries cuda-libraries-dev cuda-nvcc cuda-nvml-dev cuda-nvprune cuda-nvrtc cuda-nvrtc-dev
cuda-nvtx cuda-opencl cuda-profiler-api cuda-runtime cuda-sanitizer-api cuda-toolkit cuda-tools cuda-version
cuda-visual-tools cudatoolkit cudnn cudnn-jit curl cyrus-sasl dav1d dbus double-conversion eigen epoxy expat fastcgi
feature-mutex fftw flatbuffers-cpp fmt font-ttf-dejavu-sans-mono font-ttf-inconsolata font-ttf-source-code-pro
font-ttf-ubuntu fontconfig fonts-anaconda fonts-conda-ecosystem fonts-conda-forge freeglut freetype freexl fribidi
gcc-impl-linux-64 gcc-linux-64 gdk-pixbuf geos geotiff gettext gflags gfortran-impl-linux-64 giflib glew glib
glib-tools glog gmp gnutls graphite2 gsl gst-plugins-base gstreamer gtest gtk2 gtk3 gts gxx-impl-linux-64
gxx-linux-64 harfbuzz hdf4 hdf5 icc-rt icu imath intel-openmp isa-l jansson jasper jemalloc jpeg json-c jxrlib
kealib kernel-headers-linux-64 keyutils khronos-opencl-icd-loader krb5 lame lcms2 ld-impl-linux-64
ld-impl-linux-aarch64 ld-impl-osx-64 ld64 ld64-osx-64 leptonica lerc level-zero libxml2-devel libxslt llvm-openmp
llvm-tools lz4-c lzo m2w64-gcc-libgfortran m2w64-gcc-libs m2w64-gcc-libs-core m2w64-gmp m2w64-libwinpthread-git
magma-cuda110 magma-cuda111 magma-cuda113 magma-cuda116 magma-cuda117 magma-cuda118 magma-cuda121 menuinst metis
minizip mkl mkl-devel mkl-dnn mkl-include mpc mpfr msys2-conda-epoch mumps-seq mysql-common mysql-libs nccl ncurses
nettle ninja-base nlohmann-json nomkl nsight-compute nspr nss numactl ocl-icd oniguruma openblas openblas-devel
openexr openh264 openjpeg openldap openmp openssl orc p11-kit pango pcre pcre2 pixman pkg-config poppler-data
powershell-shortcut prometheus-cpp pthread-stubs pthreads-win32 pugixml python-abi python-app pytorch-cuda
pytorch-mutex qhull qt qt-main qt-webengine qt5compat qt6-main rav1e rdma-core re2 readline s2n scotch sdl2 sleef
snappy spdlog spirv-tools sqlite suitesparse superlu svt-av1 sysroot-linux-64 tapi tbb tbb-devel tensorflow-select
tesseract-data tiledb tk tktable tzcode tzdata ucrt unixodbc uriparser utf8proc util-linux vc vc14-runtime vs-win-64
vs2013-runtime vs2015-runtime wayland winpty x264 x265 xcb-util xcb-util-image xcb-util-keysyms xcb-util-renderutil
xcb-util-wm xerces-c xkeyboard-config xxhash-c xz yaml yaml-cpp zeromq zfp zlib zlib-ng zstd
"""
LIBRARIES = frozenset(_LIBRARIES.split())
"""Native libraries and metapackages of conda; wheels contain their own, or the system has them."""

_TOOLS = """
bedtools blast boost bowtie2 bwa c-compiler chromium clang clangxx cmake-tools compilers cxx-compiler docker emacs
ffmpeg firefox fortran-compiler gcc gdal-bin geckodriver gfortran ghostscript git git-lfs go graphviz gxx hadoop
htop htslib imagemagick java-jdk jq julia libprotobuf-compiler make maven mongodb mosquitto mpich mysql mysql-server
ncbi-blast neo4j nginx nodejs octave opencv-cpp openjdk openmpi pandoc perl php poppler postgresql proj
protobuf-compiler r r-base r-essentials redis redis-server rust samtools scala sox spark swig tesseract texlive-core
unzip vim wget wkhtmltopdf xvfb yarn zip zsh
"""
TOOLS = frozenset(_TOOLS.split())
"""Programs that a project may call and that no Python package contains."""

_PYTHON_LIBS = """
libarchive libarchive-c libclang libcloud libconf libcst liblinear libmambapy libmr libnacl libpgm libpysal
librabbitmq libretranslate librosa librt libsass libsvm libtmux libtorrent libusb1 libvirt-python
"""
PYTHON_LIBS = frozenset(_PYTHON_LIBS.split())
"""Python packages whose name begins with "lib"."""
