"""A person looks at worlds and recorded episodes in a browser.

``show`` serves a view or saves it; the views are ``world_view`` and ``dataset_view``. What they show is in
``bodies`` and ``meshes``, ``regions``, ``sights``, ``recorded`` and ``episode_scene``.
"""

from simreal_envs.errors import MissingDependencyError

try:
    import viser  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(f"The viewer needs viser ({error}): pip install 'simreal[view]'") from error
