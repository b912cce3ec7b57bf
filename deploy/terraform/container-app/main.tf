# The gateway as an app of Azure Container Apps, with a user-assigned identity. The same as
# deploy/container/container-app.bicep.

locals {
  has_key = var.gateway_key_secret_uri != null
}

resource "azurerm_container_app" "this" {
  name                         = var.name
  resource_group_name          = var.resource_group_name
  container_app_environment_id = var.container_app_environment_id
  revision_mode                = "Single"

  identity {
    type         = "UserAssigned"
    identity_ids = [var.identity_id]
  }

  ingress {
    external_enabled           = var.external
    target_port                = 8080
    transport                  = "http"
    allow_insecure_connections = false

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }

    dynamic "ip_security_restriction" {
      for_each = var.allowed_address_ranges

      content {
        name             = "allowed-${ip_security_restriction.key}"
        action           = "Allow"
        ip_address_range = ip_security_restriction.value
      }
    }
  }

  dynamic "registry" {
    for_each = var.registry_server == null ? [] : [var.registry_server]

    content {
      server   = registry.value
      identity = var.identity_id
    }
  }

  dynamic "secret" {
    for_each = local.has_key ? [var.gateway_key_secret_uri] : []

    content {
      name                = "gateway-key"
      key_vault_secret_id = secret.value
      identity            = var.identity_id
    }
  }

  template {
    min_replicas = var.min_replicas
    max_replicas = var.max_replicas
    # The host gives requests in progress 15 seconds.
    termination_grace_period_seconds = 20

    container {
      name  = "gateway"
      image = var.image
      args  = ["--max-connections", "1000"]
      # The smallest size of Container Apps. The component runs on one thread.
      cpu    = 0.25
      memory = "0.5Gi"

      env {
        name  = "KeyVaultUri"
        value = var.vault_uri
      }

      env {
        name  = "AZURE_CLIENT_ID"
        value = var.identity_client_id
      }

      env {
        # The ingress adds X-Forwarded-For and similar headers to every request.
        name  = "GATEWAY_TRUST_FORWARDED"
        value = "true"
      }

      dynamic "env" {
        for_each = var.gateway_callers == "" ? [] : [var.gateway_callers]

        content {
          name  = "GATEWAY_CALLERS"
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.caller_token_tenant == "" ? [] : [var.caller_token_tenant]

        content {
          name  = "GATEWAY_JWT_TENANT"
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.caller_token_audience == "" ? [] : [var.caller_token_audience]

        content {
          name  = "GATEWAY_JWT_AUDIENCE"
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.gateway_oidc == "" ? [] : [var.gateway_oidc]

        content {
          name  = "GATEWAY_OIDC"
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.has_key ? ["gateway-key"] : []

        content {
          name        = "GATEWAY_KEY"
          secret_name = env.value
        }
      }

      liveness_probe {
        transport               = "HTTP"
        path                    = "/healthz"
        port                    = 8080
        interval_seconds        = 10
        timeout                 = 2
        failure_count_threshold = 3
      }

      readiness_probe {
        transport               = "HTTP"
        path                    = "/readyz"
        port                    = 8080
        interval_seconds        = 10
        timeout                 = 5
        failure_count_threshold = 3
      }
    }

    http_scale_rule {
      name                = "http"
      concurrent_requests = tostring(var.concurrent_requests)
    }
  }
}
