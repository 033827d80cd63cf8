// A Nextflow module: one participant of a BIDS data set for each task.
//
//   include { MEDRESTORE } from './container/medrestore.nf'
//   workflow { MEDRESTORE(Channel.of('01', '02').map { label -> [label, file(params.bids)] }) }
process MEDRESTORE {
    tag "sub-${label}"
    container "${params.medrestore_image ?: 'medrestore:0.1.0'}"
    cpus 2
    memory '8 GB'

    input:
    tuple val(label), path(bids, stageAs: 'bids')

    output:
    // The status is 0, or 3 where some images failed: the report in the folder says which, the others are done.
    // A task that fails would have no output at all.
    tuple val(label), path('out'), path('status.txt'), emit: derivatives

    script:
    """
    status=0
    /opt/medrestore/bin/medrestore-container bids bids out participant \\
        --participant-label ${label} --threads ${task.cpus} --max-memory ${task.memory.toMega()}MB \\
        --work-dir work --quiet ${task.ext.args ?: ''} || status=\$?
    echo \$status > status.txt
    [ \$status -eq 0 ] || [ \$status -eq 3 ]
    """

    stub:
    """
    mkdir out
    echo 0 > status.txt
    """
}
