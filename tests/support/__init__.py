"""What several tests share: servers, clients, repositories, channels."""
