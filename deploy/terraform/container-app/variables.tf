variable "name" {
  description = "Name of the container app."
  type        = string
  default     = "keyvault-gateway"
}

variable "resource_group_name" {
  description = "Resource group of the container app."
  type        = string
}

variable "container_app_environment_id" {
  description = "Resource id of the Container Apps environment that the app belongs to."
  type        = string
}

variable "image" {
  description = "Image of the gateway, with its tag or, better, its digest."
  type        = string
}

variable "registry_server" {
  description = "Login server of the registry of the image, to be pulled from with the identity, which needs the role AcrPull there; null for a public registry."
  type        = string
  default     = null
}

variable "identity_id" {
  description = "Resource id of the user-assigned identity that may read the vault."
  type        = string
}

variable "identity_client_id" {
  description = "Client id of the same identity. Container Apps asks for the system-assigned identity if none is selected."
  type        = string
}

variable "vault_uri" {
  description = "Address of the vault, https://my-vault.vault.azure.net."
  type        = string
}

variable "gateway_key_secret_uri" {
  description = "Address in Key Vault of the secret with the callers' key, https://my-vault.vault.azure.net/secrets/name; null if callers have keys of their own or tokens."
  type        = string
  default     = null
}

variable "gateway_callers" {
  description = "GATEWAY_CALLERS, as a JSON list. It has hashes of keys and no keys."
  type        = string
  default     = ""
}

variable "caller_token_tenant" {
  description = "Tenant of callers with access tokens of Entra ID: GATEWAY_JWT_TENANT; empty if callers have keys."
  type        = string
  default     = ""
}

variable "caller_token_audience" {
  description = "Audience of these tokens: GATEWAY_JWT_AUDIENCE; empty if callers have keys."
  type        = string
  default     = ""
}

variable "gateway_oidc" {
  description = "GATEWAY_OIDC, as a JSON list: issuers of tokens of callers' platforms; empty for none."
  type        = string
  default     = ""
}

variable "external" {
  description = "Whether the app can be reached from outside its environment."
  type        = bool
  default     = false
}

variable "allowed_address_ranges" {
  description = "Address ranges, 203.0.113.7/32, from which alone the app answers; empty for all. For an app with external = true."
  type        = list(string)
  default     = []
}

variable "min_replicas" {
  description = "Fewest replicas. Each has a cache of its own, which is empty at its start."
  type        = number
  default     = 2

  validation {
    condition     = var.min_replicas >= 1
    error_message = "With no replica, each first request would wait for a start."
  }
}

variable "max_replicas" {
  description = "Most replicas."
  type        = number
  default     = 10

  validation {
    condition     = var.max_replicas >= 1
    error_message = "The app needs one replica at least."
  }
}

variable "concurrent_requests" {
  description = "Concurrent requests of one replica beyond which Container Apps adds another one."
  type        = number
  default     = 100

  validation {
    condition     = var.concurrent_requests >= 1
    error_message = "The rule needs one request at least."
  }
}
