"""Results as plotly figures, named as Optuna names its own.

Every figure has a title, axis names with units, and colours that people with any kind of colour
vision can tell apart. Each is one call with a study,
and a `FisherSampler` where its model is shown.
"""

from fisherbo.visualization.calibration import plot_calibration as plot_calibration
from fisherbo.visualization.contour import plot_posterior_contour as plot_posterior_contour
from fisherbo.visualization.dashboard import save_to_dashboard as save_to_dashboard
from fisherbo.visualization.history import plot_optimization_history as plot_optimization_history
from fisherbo.visualization.importance import (
    LengthscaleImportanceEvaluator as LengthscaleImportanceEvaluator,
)
from fisherbo.visualization.importance import plot_param_importances as plot_param_importances
from fisherbo.visualization.learning_curves import plot_learning_curves as plot_learning_curves
from fisherbo.visualization.posterior import plot_acquisition_slice as plot_acquisition_slice
from fisherbo.visualization.posterior import plot_posterior_slice as plot_posterior_slice
from fisherbo.visualization.regret import plot_regret_bound as plot_regret_bound
from fisherbo.visualization.report import StudyReport as StudyReport
from fisherbo.visualization.report import report as report
from fisherbo.visualization.steps import plot_kl_steps as plot_kl_steps
from fisherbo.visualization.studies import CONTOUR_TRIALS as CONTOUR_TRIALS
from fisherbo.visualization.studies import plot_parallel_coordinate as plot_parallel_coordinate
from fisherbo.visualization.studies import plot_response_map as plot_response_map
from fisherbo.visualization.training import plot_training_monitor as plot_training_monitor
from fisherbo.visualization.training import plot_training_trace as plot_training_trace
