variable "resource_group_name" {
  description = "Resource group of the identity, of a new vault and of the private endpoint."
  type        = string
}

variable "location" {
  description = "Azure region of what the module makes."
  type        = string
}

variable "vault_name" {
  description = "Name of the vault: 3 to 24 letters, digits and hyphens, unique in all of Azure."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z](-?[A-Za-z0-9]){2,23}$", var.vault_name)) && length(var.vault_name) <= 24
    error_message = "The name of a vault has 3 to 24 letters, digits and hyphens. It begins with a letter and has no two hyphens in a row."
  }
}

variable "existing_vault_resource_group_name" {
  description = "Resource group of a vault that exists and uses Azure RBAC; null to make a new vault."
  type        = string
  default     = null
}

variable "identity_name" {
  description = "Name of the user-assigned identity that the gateway signs in with."
  type        = string
  default     = "keyvault-gateway"
}

variable "federated_credentials" {
  description = "Federated credentials of the identity, by name: issuer and subject of a token that may be exchanged for one of the identity. 20 at most."
  type = map(object({
    issuer   = string
    subject  = string
    audience = optional(string, "api://AzureADTokenExchange")
  }))
  default = {}

  validation {
    condition     = length(var.federated_credentials) <= 20
    error_message = "An identity has 20 federated credentials at most."
  }
}

variable "get_secret_only" {
  description = "Whether the identity gets a custom role that can read values by name and nothing else, instead of Key Vault Secrets User, which lists names as well."
  type        = bool
  default     = false
}

variable "log_analytics_workspace_id" {
  description = "Resource id of the Log Analytics workspace that gets the log of the vault; null for no log."
  type        = string
  default     = null
}

variable "purge_protection" {
  description = "Whether a deleted vault or secret stays until the end of its retention, for every account. Once on, it can never be switched off. For a new vault."
  type        = bool
  default     = true
}

variable "soft_delete_retention_days" {
  description = "Days in which a deleted secret, or the deleted vault, can be brought back. It cannot be changed later. For a new vault."
  type        = number
  default     = 90

  validation {
    condition     = var.soft_delete_retention_days >= 7 && var.soft_delete_retention_days <= 90
    error_message = "The retention has 7 to 90 days."
  }
}

variable "public_network_access" {
  description = "Whether the vault can be reached by its public address. With false, the gateway needs the private endpoint. For a new vault."
  type        = bool
  default     = true
}

variable "allowed_subnet_ids" {
  description = "Resource ids of the subnets, with the service endpoint Microsoft.KeyVault, from which alone the public address answers; empty for every network. For a new vault."
  type        = list(string)
  default     = []
}

variable "private_endpoint" {
  description = "Private endpoint of the vault: its subnet, and either a private DNS zone that exists or the virtual networks that find the vault by a new zone; null for none."
  type = object({
    subnet_id             = string
    private_dns_zone_id   = optional(string)
    private_dns_zone_name = optional(string, "privatelink.vaultcore.azure.net")
    virtual_network_ids   = optional(list(string), [])
  })
  default = null
}
