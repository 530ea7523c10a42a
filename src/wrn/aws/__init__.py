"""Amazon SageMaker: what a training job costs there, and how it is started. Never imports torch."""
