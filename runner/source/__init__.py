"""Where code comes from: folders, git repositories, archives; and the frozen tree that is run."""
