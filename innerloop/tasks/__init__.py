"""Batches of tasks: gradients of their outer losses, and training by them."""

from innerloop.tasks.gradients import Mode, TaskGradients, task_gradients
from innerloop.tasks.training import meta_train

__all__ = ["Mode", "TaskGradients", "meta_train", "task_gradients"]
