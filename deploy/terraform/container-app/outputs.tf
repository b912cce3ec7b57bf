output "fqdn" {
  description = "Host name of the app."
  value       = azurerm_container_app.this.ingress[0].fqdn
}
