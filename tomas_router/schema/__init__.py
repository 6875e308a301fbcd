"""The contracts: everything from outside enters here, is validated once, and is trusted afterwards."""
