"""Tables that map imported modules and old package names to packages of the Python index."""

from collections.abc import Mapping
from functools import cache

from runner.base.package_names import canonical_name

_OTHER_NAMES = """
Bio=biopython Crypto=pycryptodome Cython=cython IPython=ipython Levenshtein=levenshtein MeCab=mecab-python3
MySQLdb=mysqlclient OpenGL=pyopengl OpenSSL=pyopenssl PIL=pillow PyPDF2=PyPDF2 PyQt5=pyqt5 Xlib=python-xlib
absl=absl-py annoy=annoy attr=attrs attrs=attrs bs4=beautifulsoup4 category_encoders=category-encoders
chart_studio=chart-studio community=python-louvain confluent_kafka=confluent-kafka cv2=opencv-python-headless
dash_bootstrap_components=dash-bootstrap-components databricks=databricks-cli dateutil=python-dateutil
deep_translator=deep-translator discord=discord.py distutils=setuptools dns=dnspython docx=python-docx
dotenv=python-dotenv editdistance=editdistance email_validator=email-validator en_core_web_sm= faiss=faiss-cpu
feature_engine=feature-engine fitz=pymupdf flask_cors=flask-cors flask_restful=flask-restful
flask_sqlalchemy=flask-sqlalchemy flask_wtf=flask-wtf geopy=geopy git=gitpython github=pygithub
google_auth_oauthlib=google-auth-oauthlib graphviz=graphviz great_expectations=great-expectations haystack=farm-haystack
hmmlearn=hmmlearn huggingface_hub=huggingface-hub hydra=hydra-core imblearn=imbalanced-learn
bayes_opt=bayesian-optimization box=python-box iterstrat=iterative-stratification kafka=kafka-python
pynvml=nvidia-ml-py rouge=rouge pyro=pyro-ppl gin=gin-config
imgaug=imgaug ipywidgets=ipywidgets jax=jax jose=python-jose jwt=pyjwt kaggle=kaggle
keras_preprocessing=keras-preprocessing
kerastuner=keras-tuner keras_tuner=keras-tuner kfp=kfp kneed=kneed kornia=kornia langchain_community=langchain-community
langchain_core=langchain-core langchain_openai=langchain-openai lightgbm=lightgbm lightning=lightning
lightning_fabric=lightning-fabric lxml=lxml magic=python-magic markdown=markdown matplotlib_venn=matplotlib-venn
memory_profiler=memory-profiler missingno=missingno mlxtend=mlxtend model_utils= more_itertools=more-itertools
mpl_toolkits=matplotlib mpl_finance=mpl-finance multipart=python-multipart mysql=mysql-connector-python
nacl=pynacl neptune=neptune nibabel=nibabel nltk=nltk notebook=notebook objsize=objsize odf=odfpy openpyxl=openpyxl
optuna_integration=optuna-integration pandas_datareader=pandas-datareader pandas_gbq=pandas-gbq
pandas_profiling=pandas-profiling ydata_profiling=ydata-profiling past=future path=path pkg_resources=setuptools
plotly_express=plotly-express pmdarima=pmdarima polars=polars prometheus_client=prometheus-client
psycopg2=psycopg2-binary pyarrow=pyarrow pydantic_settings=pydantic-settings pydotplus=pydotplus pylab=matplotlib
pymongo=pymongo pyodbc=pyodbc pypdf=pypdf pyspark=pyspark pytesseract=pytesseract pytorch_lightning=pytorch-lightning
pytorch_tabnet=pytorch-tabnet pywt=pywavelets pyximport=cython pythoncom=pywin32 win32com=pywin32 rdkit=rdkit
ruamel=ruamel.yaml s3fs=s3fs sacremoses=sacremoses scikitplot=scikit-plot scikit_posthocs=scikit-posthocs
segmentation_models=segmentation-models segmentation_models_pytorch=segmentation-models-pytorch
sentence_transformers=sentence-transformers serial=pyserial setuptools=setuptools shap=shap skimage=scikit-image
sklearn=scikit-learn sklearn_pandas=sklearn-pandas skopt=scikit-optimize skorch=skorch sksurv=scikit-survival
slugify=python-slugify socks=pysocks sentencepiece=sentencepiece snowflake=snowflake-connector-python
speech_recognition=SpeechRecognition streamlit=streamlit surprise=scikit-surprise tensorboard=tensorboard
tensorboardX=tensorboardX tensorflow_addons=tensorflow-addons tensorflow_datasets=tensorflow-datasets
tensorflow_hub=tensorflow-hub tensorflow_probability=tensorflow-probability tensorflow_text=tensorflow-text
tables=tables telegram=python-telegram-bot text_unidecode=text-unidecode tlz=toolz torch_geometric=torch-geometric
torch_scatter=torch-scatter torchinfo=torchinfo torchsummary=torchsummary typing_extensions=typing-extensions
umap=umap-learn unidecode=unidecode usb=pyusb webdriver_manager=webdriver-manager websocket=websocket-client
wordcloud=wordcloud xlrd=xlrd xlsxwriter=xlsxwriter yaml=pyyaml yellowbrick=yellowbrick zmq=pyzmq
google.cloud=google-cloud-storage google.cloud.bigquery=google-cloud-bigquery google.cloud.storage=google-cloud-storage
google.protobuf=protobuf google.oauth2=google-auth google.auth=google-auth azure.storage.blob=azure-storage-blob
azure.identity=azure-identity azure.ai.ml=azure-ai-ml azureml.core=azureml-core azureml=azureml-core
delta=delta-spark ray=ray mlflow_skinny=mlflow-skinny xgboost_ray=xgboost-ray dask_ml=dask-ml dask_cuda=dask-cuda
interpret=interpret fairlearn=fairlearn aif360=aif360 lifelines=lifelines econml=econml dowhy=dowhy
causalml=causalml prophet=prophet fbprophet=fbprophet neuralprophet=neuralprophet gluonts=gluonts sktime=sktime
statsforecast=statsforecast tsfresh=tsfresh darts=darts openai=openai anthropic=anthropic transformers=transformers
"""

_SAME_NAMES = """
adjustText aiohttp alembic alibi altair arch arviz astropy autogluon backoff bayesian-optimization bcrypt bokeh boto3
botocore boruta cachetools catboost celery cerberus certifi chardet click cloudpickle colorama colorlog comet-ml
coremltools cvxpy cycler dagshub dash dask dash-core-components datasets deap deepchem dill distributed django docker
docopt dvc dvclive easydict eli5 emoji evaluate fastai fastapi fastparquet fasttext featuretools filelock fire flair
flask folium fsspec ftfy future gcsfs gensim geopandas gevent gin-config googletrans gradio gunicorn gym gymnasium h2o
h5py holoviews httpx huggingface-hub hyperopt igraph imageio imutils inflect invoke
iterative-stratification itsdangerous
janitor jieba jinja2 joblib jsonlines jsonschema jupyter kafka-python keras kedro kmodes kubernetes langchain langdetect
lightfm lime llvmlite loguru luigi lz4 mako marshmallow matplotlib metaflow mlflow mlserver mlforecast modin motor
msgpack munch natsort nbconvert nbformat networkx nevergrad nlpaug nltk numba numexpr numpy nvidia-ml-py omegaconf
onnx onnxmltools onnxruntime openml optuna orjson packaging pandas pandas-ta pandera pandasql papermill paramiko
pathos patsy peewee pendulum pexpect pgmpy phik pika plac plotly plotnine ploomber praw prefect prettytable prince
psutil py4j pyannote pybind11 pycaret pycocotools pydantic pydot pydub pygments pyglet pymc pymc3 pymysql pyparsing
pyod pypdf pyproj pyro-ppl pystan pytest python-box pytz pyvis querystring-parser rasterio ray redis regex requests
rich river rouge-score ruptures sagemaker scipy scikeras seaborn selenium seldon-core sentry-sdk seqeval
shapely simplejson
simpletransformers six skl2onnx sktime slack-sdk snorkel spacy sqlalchemy sqlparse starlette statsmodels stumpy
sweetviz sympy tabulate tenacity tensorflow termcolor textblob textdistance tfx thop threadpoolctl tifffile tiktoken
timm tokenizers toml tomli toolz torch torchaudio torchmetrics torchtext torchvision tornado tpot tqdm treelib
tweepy typer tzlocal ujson uvicorn vaex vaderSentiment waitress wandb watchdog werkzeug wget whylogs wrapt xarray
xgboost xlwt xmltodict yfinance zarr zenml zstandard
"""


@cache
def _modules() -> Mapping[str, str]:
    """Return the table from module to package, built on first use; an empty value means that no package is right."""
    same = {name.replace("-", "_"): name for name in _SAME_NAMES.split()}
    pairs = (pair.partition("=") for pair in _OTHER_NAMES.split())
    return {**same, **{module: name for module, _, name in pairs}}


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
