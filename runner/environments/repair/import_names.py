"""Tables that map imported modules and old package names to packages of the Python index."""

from collections.abc import Mapping
from functools import cache

from runner.base.package_names import canonical_name

# An entry has its source after "@": the version of a wheel that contains the module, or the table of pipreqs 0.5.0.
# An entry without a source was compared with no wheel.

_OTHER_NAMES = """
absl=absl-py@2.3.1 attr=attrs@26.1.0 azure.ai.ml=azure-ai-ml azure.identity=azure-identity
azure.storage.blob=azure-storage-blob azureml.core=azureml-core azureml=azureml-core bayes_opt=bayesian-optimization
Bio=biopython box=python-box bs4=beautifulsoup4@4.15.0 community=python-louvain Crypto=pycryptodome@pipreqs
cv2=opencv-python-headless Cython=cython@3.0.12 dateutil=python-dateutil@4.0.0 delta=delta-spark
discord=discord.py@pipreqs distutils=setuptools dns=dnspython@pipreqs docx=python-docx dotenv=python-dotenv@1.2.4
en_core_web_sm= faiss=faiss-cpu fitz=pymupdf gin=gin-config git=gitpython@3.2.1 github=pygithub@pipreqs
google.auth=google-auth@2.62.2 google.cloud.bigquery=google-cloud-bigquery google.cloud.storage=google-cloud-storage
google.cloud=google-cloud-storage google.oauth2=google-auth@2.62.2 google.protobuf=protobuf@7.36.2
haystack=farm-haystack hydra=hydra-core@1.3.8 imblearn=imbalanced-learn IPython=ipython@8.12.3
iterstrat=iterative-stratification janitor=pyjanitor jose=python-jose jwt=pyjwt@2.15.1 kafka=kafka-python
kerastuner=keras-tuner Levenshtein=levenshtein magic=python-magic@pipreqs MeCab=mecab-python3 model_utils=
mpl_toolkits=matplotlib@3.8.4 multipart=python-multipart mysql=mysql-connector-python MySQLdb=mysqlclient nacl=pynacl
odf=odfpy@pipreqs OpenGL=pyopengl@pipreqs OpenSSL=pyopenssl@24.2.1 past=future@pipreqs PIL=pillow@13.0.0
pkg_resources=setuptools@80.9.0 psycopg2=psycopg2-binary pylab=matplotlib@3.8.4 pynvml=nvidia-ml-py PyQt5=pyqt5
pyro=pyro-ppl pythoncom=pywin32 pywt=pywavelets pyximport=cython@3.0.12 ruamel=ruamel.yaml@0.19.1
scikitplot=scikit-plot serial=pyserial@pipreqs skimage=scikit-image sklearn=scikit-learn@1.9.1 skopt=scikit-optimize
sksurv=scikit-survival slugify=python-slugify@pipreqs snowflake=snowflake-connector-python socks=pysocks
speech_recognition=SpeechRecognition surprise=scikit-surprise telegram=python-telegram-bot@pipreqs tlz=toolz
umap=umap-learn usb=pyusb@pipreqs websocket=websocket-client@pipreqs win32com=pywin32 Xlib=python-xlib
yaml=pyyaml@6.0.3 zmq=pyzmq@pipreqs
"""

_SAME_NAMES = """
adjustText aif360 aiohttp@3.14.5 alembic@1.20.1 alibi altair annoy anthropic arch arviz astropy attrs@26.1.0 autogluon
backoff bcrypt bokeh boruta boto3@1.43.11 botocore@1.43.11 cachetools@7.3.2 catboost category-encoders causalml
celery@5.7.0 cerberus@pipreqs certifi@2026.5.20 chardet@5.2.0 chart-studio click@8.5.1 cloudpickle@3.1.2
colorama@0.4.6 colorlog comet-ml confluent-kafka coremltools cvxpy cycler@0.12.1 dagshub darts dash
dash-bootstrap-components dash-core-components dask dask-cuda dask-ml datasets deap deep-translator deepchem dill
distributed django@pipreqs docker@7.2.0 docopt dowhy dvc@3.67.1 dvclive easydict econml editdistance eli5
email-validator emoji evaluate fairlearn fastai fastapi@0.165.0 fastparquet fasttext fbprophet feature-engine
featuretools filelock@4.2.11 fire flair flask-cors@6.0.5 flask-restful flask-sqlalchemy flask-wtf flask@3.1.3 folium
fsspec@2026.9.0 ftfy future gcsfs gensim geopandas geopy gevent gluonts google-auth-oauthlib googletrans gradio
graphviz great-expectations gunicorn@26.2.0 gym gymnasium h2o h5py hmmlearn holoviews httpx huggingface-hub hyperopt
igraph imageio imgaug imutils inflect@7.3.1 interpret invoke ipywidgets itsdangerous@2.2.0 jax jieba jinja2@3.1.6
joblib@1.6.0 jsonlines jsonschema@4.26.0 jupyter kaggle kedro keras keras-preprocessing keras-tuner kfp kmodes kneed
kornia kubernetes langchain langchain-community langchain-core langchain-openai langdetect lifelines lightfm lightgbm
lightning lightning-fabric lime llvmlite loguru luigi lxml lz4 mako@1.4.3 markdown@3.9 marshmallow matplotlib-venn
matplotlib@3.8.4 memory-profiler metaflow missingno mlflow@3.17.2 mlforecast mlserver mlxtend modin
more-itertools@11.2.1 motor mpl-finance msgpack@1.2.4 munch natsort@8.4.0 nbconvert nbformat@5.11.1 neptune
networkx@3.6.1 neuralprophet nevergrad nibabel nlpaug nltk notebook numba numexpr numpy@2.5.5 objsize omegaconf@2.3.1
onnx onnxmltools onnxruntime openai openml openpyxl optuna optuna-integration orjson@3.8.3 packaging@26.3
pandas-datareader pandas-gbq pandas-profiling pandas-ta pandas@3.1.1 pandasql pandera papermill paramiko path pathos
patsy peewee pendulum pexpect@4.8.0 pgmpy phik pika plac ploomber plotly plotly-express plotnine pmdarima polars praw
prefect prettytable@3.18.0 prince prometheus-client prophet psutil@7.2.2 py4j pyannote pyarrow@25.0.1 pybind11 pycaret
pycocotools pydantic-settings@2.16.3 pydantic@2.14.3 pydot@4.0.1 pydotplus pydub pyglet pygments@2.21.0 pymc pymc3
pymongo pymysql pyod pyodbc pyparsing@3.3.3 pypdf PyPDF2 pyproj pyspark pystan pytesseract pytest@9.2.0
pytorch-lightning pytorch-tabnet pytz@2026.6 pyvis querystring-parser rasterio ray rdkit redis regex@2026.5.9
requests@2.34.2 rich@15.0.0 river rouge rouge-score ruptures s3fs sacremoses sagemaker scikeras scikit-posthocs
scipy@1.2.0 seaborn segmentation-models segmentation-models-pytorch seldon-core selenium sentence-transformers
sentencepiece sentry-sdk seqeval setuptools@84.2.1 shap shapely@pipreqs simplejson simpletransformers six@1.17.0
skl2onnx sklearn-pandas skorch sktime slack-sdk snorkel spacy sqlalchemy@2.1.9 sqlparse@0.6.1 starlette@1.10.0
statsforecast statsmodels streamlit stumpy sweetviz sympy@1.14.0 tables tabulate@0.9.0 tenacity@9.2.1
tensorboard@2.20.0 tensorboardX tensorflow tensorflow-addons tensorflow-datasets tensorflow-hub tensorflow-probability
tensorflow-text termcolor text-unidecode textblob textdistance tfx thop threadpoolctl@3.8.0 tifffile tiktoken timm
tokenizers toml tomli@2.5.0 toolz torch torch-geometric torch-scatter torchaudio torchinfo torchmetrics torchsummary
torchtext torchvision tornado tpot tqdm@4.70.1 transformers treelib tsfresh tweepy typer typing-extensions@4.16.0
tzlocal@5.4.5 ujson unidecode@pipreqs uvicorn@0.54.0 vaderSentiment vaex waitress wandb watchdog webdriver-manager
werkzeug@3.1.9 wget whylogs wordcloud wrapt@2.5.2 xarray xgboost xgboost-ray xlrd xlsxwriter xlwt xmltodict@1.0.4
ydata-profiling yellowbrick yfinance zarr zenml zstandard@0.25.0
"""


@cache
def _modules() -> Mapping[str, str]:
    """Return the table from module to package, built on first use; an empty value means that no package is right."""
    same = (entry.partition("@")[0] for entry in _SAME_NAMES.split())
    pairs = (entry.partition("@")[0].partition("=") for entry in _OTHER_NAMES.split())
    return {**{name.replace("-", "_"): name for name in same}, **{module: name for module, _, name in pairs}}


RENAMED = {
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "scikit-learn-intelex-daal": "scikit-learn-intelex",
    "pytorch": "torch",
    "dotenv": "python-dotenv",
    "dateutil": "python-dateutil",
    "yaml": "pyyaml",
    "pil": "pillow",
    "cv2": "opencv-python-headless",
    "opencv": "opencv-python-headless",
    "bs4": "beautifulsoup4",
    "imblearn": "imbalanced-learn",
    "skopt": "scikit-optimize",
    "umap": "umap-learn",
    "hydra": "hydra-core",
    "crypto": "pycryptodome",
    "psycopg2-bin": "psycopg2-binary",
    "pandas-profiling-ydata": "ydata-profiling",
    "git": "gitpython",
}
"""Names that are stubs, unrelated packages or absent on the Python index, and the intended package; canonical names."""


def known_packages() -> tuple[str, ...]:
    """Return the canonical names of the packages in the tables."""
    return tuple(dict.fromkeys(canonical_name(name) for name in _modules().values() if name))


def package_of(module: str) -> str | None:
    """Return the package that provides a dotted module, or None if that is not certain."""
    table = _modules()
    parts = module.split(".")
    known = (table.get(".".join(parts[:length])) for length in range(len(parts), 0, -1))
    return next((name for name in known if name), None)


def provides(package: str, module: str) -> bool:
    """Return whether a package of the index is likely to contain a top-level module."""
    name = canonical_name(package)
    if name == canonical_name(module):
        return True
    if name in _ALSO.get(module, "").split():
        return True
    return any(canonical_name(other) == name for key, other in _modules().items() if key.split(".")[0] == module)


_ALSO = {
    "mlflow": "mlflow-skinny mlflow-tracing",
    "cv2": "opencv-python opencv-contrib-python opencv-contrib-python-headless",
    "tensorflow": "tensorflow-cpu tensorflow-gpu tensorflow-macos tf-nightly intel-tensorflow",
    "keras": "tf-keras keras-nightly",
    "psycopg2": "psycopg2",
    "faiss": "faiss-gpu faiss-gpu-cu11 faiss-gpu-cu12",
    "xgboost": "xgboost-cpu",
    "onnxruntime": "onnxruntime-gpu",
    "Crypto": "pycrypto",
    "mysql": "mysql-connector",
    "Levenshtein": "python-levenshtein",
    "pytorch_lightning": "lightning",
}
"""Further packages that contain a module."""
