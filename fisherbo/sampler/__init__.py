"""The Optuna sampler: a study's trials in, the next trial's parameters out.

One suggestion:

1. `trials`: read the study's trials as one table (Optuna; each finished trial once).
2. `search_space`: map the parameters to the unit cube and infer conditions from the trials;
   `categories` and `simplex`: which choices have an order or distances, and which parameters
   are weights that sum to one; `fixed`: hold the values that are enqueued, fixed or no longer
   asked for.
3. `observations`: give pruned and running trials the ends that their learning curves predict
   (`curve_ends`, `end_values`), rank other pruned trials by their last reports (`pruned`),
   recognise penalties and outliers, and warp the worse half of the values to normal quantiles
   (half-rank warp: Song et al. 2024, the Vizier GP bandit; up to two objectives);
   `constraints`: observations of each constraint, and of failures if there are many (Gardner
   et al. 2014). Trials of killed workers are ignored.
4. `design`: the first ``n_startup_trials`` are points of a scrambled Sobol sequence. Three of
   them are replaced by the best points of earlier studies, if given (`transfer`). With beliefs
   about the optimum, the first is their mode and half of them are drawn from them (`priors`).
5. `models`: fit a Gaussian process (Rasmussen & Williams 2006) to each objective and
   constraint. Its prior mean is pessimistic, but not in spaces with logarithmic or categorical
   parameters. The kernel is Matérn-3/2 with a lengthscale for each parameter, or for each
   rotated axis of the continuous parameters if the data support it (`gp.rotation`). The
   hyperparameters maximise their posterior density, by natural-gradient steps in the average
   information (Gilmour, Thompson & Cullis 1995). They are stored with the trial (`fit_store`)
   and refitted after a number of trials that grows with the study. Points under evaluation
   count as observed at their posterior means (kriging believer: Ginsbourger et al. 2010).
6. `suggest`: the acquisition is log expected improvement (Ament et al. 2023) over the best
   value, or over the best posterior mean if values are noisy (a point has two, or
   :data:`NOISE_VARIANCE` is given) or trials are running. For a single objective, in spaces with
   logarithmic or categorical parameters, every other trial must gain a margin beyond that, which
   leads it to other basins (several targets in turn: Jones 2001). With several objectives it is log
   expected hypervolume improvement (Daulton et al. 2020); with three or more, from ten
   observations for each, in every other trial along a random direction (Zhang & Golovin 2020).
   The log probability of feasibility is added, and the expected log cost of a trial subtracted
   if ``cost`` is given (`costs`; Snoek et al. 2012; Lee et al. 2020). The log density of a belief
   about the optimum is added too, with a weight that falls with the number of trials (πBO:
   Hvarfner et al. 2022), as far as the data do not contradict it (`acquisition.belief`).
7. `acquisition.exclusion`: avoid plateaus, where several points have equal values, and points
   under evaluation. If the best value is more than two trials old, every other trial avoids
   all known points.
8. `acquisition.quadratic`: from ten observations for each parameter, every other trial is the
   optimum of a quadratic through the best points, if that predicts them; in continuous spaces,
   for one objective without constraints, while no other trial is running.
   `acquisition.constrained_optimum`: under constraints that every trial tells, from 1.5
   observations for each parameter, it is the best feasible point that cubic splines of the
   objective and the constraints expect, by sequential quadratic programming (Kraft 1988; Regis
   2014); integers are allowed, categories are not.
9. `acquisition.propose`: otherwise maximise the acquisition by natural-gradient ascent
   (`optimize.descent`) in the Fisher metric of the posterior (`gp.fisher`), from the best of a
   set of quasi-random points; in mixed spaces, after a natural-gradient search (Ollivier et al.
   2017). With a list of candidates, the acquisition of every row is computed, and the largest is
   taken (`candidates`); `claims` ensures that no two trials get the same row.
"""

from fisherbo.sampler.recommend import Recommendation
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.sampler.trials import NOISE_VARIANCE

__all__ = ["NOISE_VARIANCE", "FisherSampler", "Recommendation"]
