// A Nextflow module: one participant of a BIDS data set for each task.
//
//   include { MEDRESTORE } from './container/medrestore.nf'
//   workflow { MEDRESTORE(Channel.of('01', '02').map { label -> [label, file(params.bids)] }) }
process MEDRESTORE {
    tag "sub-${label}"
    container "${params.medrestore_image ?: 'medrestore:0.1.0'}"
    cpus 2
    memory '8 GB'
    // 3: some images failed, and the report says which; the others are done.
    errorStrategy { task.exitStatus == 3 ? 'ignore' : 'terminate' }

    input:
    tuple val(label), path(bids, stageAs: 'bids')

    output:
    tuple val(label), path('out'), emit: derivatives

    script:
    """
    /opt/medrestore/bin/medrestore-container bids bids out participant \\
        --participant-label ${label} --threads ${task.cpus} --max-memory ${task.memory.toGiga()}GB \\
        --work-dir work --quiet ${task.ext.args ?: ''}
    """

    stub:
    """
    mkdir out
    """
}
