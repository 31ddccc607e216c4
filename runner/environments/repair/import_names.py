"""Tables that map imported modules and old package names to packages of the Python index."""

from collections.abc import Mapping
from functools import cache

from runner.base.package_names import canonical_name

# The evidence for each entry is in tests/environments/repair/import_names.txt, see docs/decisions/0085.

_OTHER_NAMES = """
absl=absl-py attr=attrs azure.ai.ml=azure-ai-ml azure.identity=azure-identity azure.storage.blob=azure-storage-blob
azureml.core=azureml-core azureml=azureml-core bayes_opt=bayesian-optimization Bio=biopython box=python-box
bs4=beautifulsoup4 community=python-louvain Crypto=pycryptodome cv2=opencv-python-headless Cython=cython
dateutil=python-dateutil delta=delta-spark discord=discord.py distutils=setuptools dns=dnspython docx=python-docx
dotenv=python-dotenv en_core_web_sm= faiss=faiss-cpu fitz=pymupdf gin=gin-config git=gitpython github=pygithub
google.auth=google-auth google.cloud.bigquery=google-cloud-bigquery google.cloud.storage=google-cloud-storage
google.cloud=google-cloud-storage google.oauth2=google-auth google.protobuf=protobuf haystack=farm-haystack
hydra=hydra-core imblearn=imbalanced-learn IPython=ipython iterstrat=iterative-stratification janitor=pyjanitor
jose=python-jose jupyter=jupyter-core jwt=pyjwt kafka=kafka-python kerastuner=keras-tuner Levenshtein=levenshtein
magic=python-magic MeCab=mecab-python3 model_utils= mpl_toolkits=matplotlib multipart=python-multipart
mysql=mysql-connector-python MySQLdb=mysqlclient nacl=pynacl odf=odfpy OpenGL=pyopengl OpenSSL=pyopenssl past=future
PIL=pillow pkg_resources=setuptools psycopg2=psycopg2-binary pylab=matplotlib pynvml=nvidia-ml-py PyQt5=pyqt5
pyro=pyro-ppl pythoncom=pywin32 pywt=pywavelets pyximport=cython ruamel=ruamel.yaml scikitplot=scikit-plot
serial=pyserial skimage=scikit-image sklearn=scikit-learn skopt=scikit-optimize sksurv=scikit-survival
slugify=python-slugify snowflake=snowflake-connector-python socks=pysocks speech_recognition=SpeechRecognition
surprise=scikit-surprise telegram=python-telegram-bot tlz=toolz umap=umap-learn usb=pyusb websocket=websocket-client
win32com=pywin32 Xlib=python-xlib yaml=pyyaml zmq=pyzmq
"""

_SAME_NAMES = """
adjustText aif360 aiohttp alembic alibi altair annoy anthropic arch arviz astropy attrs autogluon backoff bcrypt bokeh
boruta boto3 botocore cachetools catboost category-encoders causalml celery cerberus certifi chardet chart-studio click
cloudpickle colorama colorlog comet-ml confluent-kafka coremltools cvxpy cycler dagshub darts dash
dash-bootstrap-components dash-core-components dask dask-cuda dask-ml datasets deap deep-translator deepchem dill
distributed django docker docopt dowhy dvc dvclive easydict econml editdistance eli5 email-validator emoji evaluate
fairlearn fastai fastapi fastparquet fasttext fbprophet feature-engine featuretools filelock fire flair flask-cors
flask-restful flask-sqlalchemy flask-wtf flask folium fsspec ftfy future gcsfs gensim geopandas geopy gevent gluonts
google-auth-oauthlib googletrans gradio graphviz great-expectations gunicorn gym gymnasium h2o h5py hmmlearn holoviews
httpx huggingface-hub hyperopt igraph imageio imgaug imutils inflect interpret invoke ipywidgets itsdangerous jax jieba
jinja2 joblib jsonlines jsonschema kaggle kedro keras keras-preprocessing keras-tuner kfp kmodes kneed kornia
kubernetes langchain langchain-community langchain-core langchain-openai langdetect lifelines lightfm lightgbm lightning
lightning-fabric lime llvmlite loguru luigi lxml lz4 mako markdown marshmallow matplotlib-venn matplotlib
memory-profiler metaflow missingno mlflow mlforecast mlserver mlxtend modin more-itertools motor mpl-finance msgpack
munch natsort nbconvert nbformat neptune networkx neuralprophet nevergrad nibabel nlpaug nltk notebook numba numexpr
numpy objsize omegaconf onnx onnxmltools onnxruntime openai openml openpyxl optuna optuna-integration orjson packaging
pandas-datareader pandas-gbq pandas-profiling pandas pandasql pandera papermill paramiko path pathos patsy peewee
pendulum pexpect pgmpy phik pika plac ploomber plotly plotly-express plotnine pmdarima polars praw prefect prettytable
prince prometheus-client prophet psutil py4j pyarrow pybind11 pycaret pycocotools pydantic-settings pydantic pydot
pydotplus pydub pyglet pygments pymc pymc3 pymongo pymysql pyod pyodbc pyparsing pypdf PyPDF2 pyproj pyspark pystan
pytesseract pytest pytorch-lightning pytorch-tabnet pytz pyvis querystring-parser rasterio ray rdkit redis regex
requests rich river rouge rouge-score ruptures s3fs sacremoses sagemaker scikeras scikit-posthocs scipy seaborn
segmentation-models segmentation-models-pytorch seldon-core selenium sentence-transformers sentencepiece sentry-sdk
seqeval setuptools shap shapely simplejson simpletransformers six skl2onnx sklearn-pandas skorch sktime slack-sdk
snorkel spacy sqlalchemy sqlparse starlette statsforecast statsmodels streamlit stumpy sweetviz sympy tables tabulate
tenacity tensorboard tensorboardX tensorflow tensorflow-addons tensorflow-datasets tensorflow-hub tensorflow-probability
tensorflow-text termcolor text-unidecode textblob textdistance tfx thop threadpoolctl tifffile tiktoken timm tokenizers
toml tomli toolz torch torch-geometric torch-scatter torchaudio torchinfo torchmetrics torchsummary torchtext
torchvision tornado tpot tqdm transformers treelib tsfresh tweepy typer typing-extensions tzlocal ujson unidecode
uvicorn vaderSentiment vaex waitress wandb watchdog webdriver-manager werkzeug wget whylogs wordcloud wrapt xarray
xgboost xgboost-ray xlrd xlsxwriter xlwt xmltodict ydata-profiling yellowbrick yfinance zarr zenml zstandard
"""


@cache
def _modules() -> Mapping[str, str]:
    """Return the table from module to package, built on first use; an empty value means that no package is right."""
    pairs = (entry.partition("=") for entry in _OTHER_NAMES.split())
    return {name.replace("-", "_"): name for name in _SAME_NAMES.split()} | {module: name for module, _, name in pairs}


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
