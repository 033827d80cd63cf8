# A Snakemake rule: one participant of a BIDS data set for each job.
#
#   configfile: "config.yaml"      # bids: folder of the data set; medrestore_out: folder of the results
#   module medrestore:
#       snakefile: "container/medrestore.smk"
#       config: config
#   use rule * from medrestore
#
# Ask for medrestore/sub-01.done; the results are in medrestore/sub-01. The image, which Snakemake runs with
# --software-deployment-method apptainer, is medrestore.sif in the working folder, or medrestore_image of the config.
from pathlib import Path

BIDS = Path(config["bids"])
OUT = Path(config.get("medrestore_out", "medrestore"))


rule medrestore_participant:
    input:
        BIDS / "sub-{label}",
    output:
        # A mark, and not the folder of results: Snakemake removes the outputs of a job that fails or starts anew,
        # and where one image of a participant fails (status 3) the others are done, and known by the ledger.
        touch(OUT / "sub-{label}.done"),
    wildcard_constraints:
        label="[A-Za-z0-9]+",
    params:
        bids=BIDS,
        # One data set for each participant: jobs that run side by side do not share a ledger.
        out=lambda wildcards: OUT / f"sub-{wildcards.label}",
        args=config.get("medrestore_args", ""),
    threads: 2
    resources:
        mem_mb=8000,
    container:
        config.get("medrestore_image", "medrestore.sif")
    shell:
        "/opt/medrestore/bin/medrestore-container bids {params.bids:q} {params.out:q} participant"
        " --participant-label {wildcards.label} --threads {threads} --max-memory {resources.mem_mb}MB"
        " --work-dir {resources.tmpdir:q} --quiet {params.args}"
