"""The columns of a part's two tables, and what they mean; the data card shows them."""

GAINS = {
    "cell": "name of the cell, unique within a part",
    "replicate": "number of the replicate, from 1",
    "method": "SWA, EMA, SAM or WASAM, whatever the base optimizer",
    "budget": "E: equal epochs; G: up to twice the gradient evaluations",
    "score": "mean test score of the method over the confirm seeds; a higher one is better",
    "over_last": "gain over the baseline's last weights at equal epochs",
    "over_best": "gain over the baseline's best epoch at equal epochs",
    "over_last_longer": "gain over the baseline's last weights at twice the epochs; budget G alone",
    "over_best_longer": "gain over the baseline's best epoch at twice the epochs; budget G alone",
    "learning_rate": "picked by validation; of AdamW its own",
    "rho": "picked; 0 is the base step",
    "average_start": "picked; read where the weights are an average from there on",
    "weight_decay": "picked where it was searched, else the cell's",
    "weights": "what validation preferred in the tune stage: last, best or an average such as swa@0.75",
    "length": "training length that was picked, in multiples of the cell's epochs",
    "off": "the method was switched off: its gain over a baseline is exactly 0 at every seed",
    "val_score": "validation score of the pick in the tune stage: optimistic",
    "run_cost": "gradient evaluations of a confirm run, on average",
    "tuning_cost": "gradient evaluations of the searches that it picked from",
    "base_score": "mean test score of the baseline's best epoch at equal epochs",
    "base_rate": "learning rate that the baseline picked at equal epochs",
    "end_rate": "the same at the last step of the schedule",
    "score_gap": "training minus validation score of the baseline's last weights",
    "loss_gap": "validation minus training loss of the baseline's last weights",
    "early_stopping": "validation score of the baseline's best epoch minus that of its last weights",
    "best_epoch": "the baseline's best epoch, as a share of all",
    "memorized": "share of the wrong training labels that the baseline predicts at its end",
    "gradient_noise": "trace of the covariance of an example's gradient, at the baseline's end",
    "gradient_signal": "squared length of the expected gradient there; unbiased, so it may be below 0",
    "halfway_gradient_noise": "likewise, half-way through training",
    "halfway_gradient_signal": "likewise, half-way through training",
    "top_eigenvalue": "largest eigenvalue of the Hessian of the training loss, at the baseline's end",
    "trace": "trace of that Hessian",
    "worst_case_rise": "largest rise of the training loss found within a radius of 0.05",
    "average_case_rise": "mean rise of the training loss under random perturbations of that size",
}

TRIALS = {
    "cell": "name of the cell",
    "replicate": "number of the replicate; all cells of a part, and all parts of a seed, share its proposals",
    "perturbed": "whether the trajectory is SAM's",
    "length": "training length in multiples of the cell's epochs",
    "trial": "number of the proposal, from 0",
    "learning_rate": "of AdamW its own",
    "rho": "0 is the base step",
    "average_start": "the proposed start of averaging",
    "weight_decay": "where it was searched, else the cell's",
    "diverged": "whether the run diverged",
    **{
        kind: f"validation score of the {words}"
        for kind, words in (
            ("last", "last weights"), ("best", "best epoch"), ("swa", "preferred SWA average"),
            ("ema", "preferred EMA average"),
        )
    },
}  # fmt: skip
