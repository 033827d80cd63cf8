# A Snakemake rule: one participant of a BIDS data set for each job.
#
#   configfile: "config.yaml"      # bids: folder of the data set; medrestore_out: folder of the results
#   module medrestore:
#       snakefile: "container/medrestore.smk"
#       config: config
#   use rule * from medrestore
from pathlib import Path

BIDS = Path(config["bids"])
OUT = Path(config.get("medrestore_out", "medrestore"))


rule medrestore_participant:
    input:
        BIDS / "sub-{label}",
    output:
        # One data set for each participant: jobs that run side by side do not share a ledger.
        directory(OUT / "sub-{label}"),
    wildcard_constraints:
        label="[A-Za-z0-9]+",
    params:
        bids=BIDS,
        args=config.get("medrestore_args", ""),
    threads: 2
    resources:
        mem_mb=8000,
    container:
        config.get("medrestore_image", "docker://medrestore:0.1.0")
    shell:
        "/opt/medrestore/bin/medrestore-container bids {params.bids} {output} participant"
        " --participant-label {wildcards.label} --threads {threads} --max-memory {resources.mem_mb}MB"
        " --work-dir {resources.tmpdir} --quiet {params.args}"
