# Prints the alerts of docs/how-to/monitor that need only the log and that fire at $now (seconds since 1970), from the log of the
# 20 minutes before: name, severity, and the code if there is an alert for each code. A line may have a prefix before its JSON.
# Lines of other programs have no code.
[inputs | sub("^[^{]*"; "") | fromjson? | select(.code)] | map(.age = $now - (.time | fromdate)) as $lines

# The lines with these codes, grouped by code.
| def of($codes): $lines | map(select(.code as $code | $codes | index($code))) | group_by(.code)[];

# Whether each of the last `$windows` windows of `$seconds` is bad.
  def in_each($windows; $seconds; bad):
    . as $of
    | all(range($windows) * $seconds; . as $from
      | $of | map(select(.age >= $from and .age < $from + $seconds)) | bad);

  (of(["ConfigurationError", "InternalError"])
    | select(in_each(1; 300; length > 0)) | ["KeyVaultGatewayMisconfigured", "page", .[0].code]),
  (of(["IdentityError", "VaultError", "VaultAccessDenied"])
    | select(in_each(3; 300; length > 0)) | ["KeyVaultGatewayNoAccess", "page", .[0].code]),
  (["IdentityError", "VaultError", "VaultAccessDenied", "IdentityThrottled", "VaultThrottled", "Unavailable", "Timeout"] as $codes
    | $lines | map(select(.codes // {} | keys | any(. as $code | $codes | index($code))))
    | select(in_each(3; 300; length > 0)) | ["KeyVaultGatewayItemsFail", "page"]),
  ($lines
    | select(in_each(2; 300; length > 0 and (map(select(.status >= 500)) | length) / length > 0.01))
    | ["KeyVaultGatewayFailing", "page"]),
  ($lines | map(select(.cache == "served-stale"))
    | select(in_each(3; 300; length > 0)) | ["KeyVaultGatewayServesStale", "page"]),
  ($lines
    | select(in_each(2; 300; (map(.upstream) | add) > 60000)) | ["KeyVaultGatewayNearTheLimit", "ticket"]),
  (of(["VaultThrottled", "IdentityThrottled"])
    | select(in_each(2; 300; length > 0)) | ["KeyVaultGatewayThrottled", "ticket", .[0].code]),
  ($lines | map(select(.code == "TooManyRequests" or .codes.TooManyRequests))
    | select(in_each(2; 300; length > 0)) | ["KeyVaultGatewayCallersLimited", "ticket"]),
  # Each secret of a request for several secrets counts.
  (("Forbidden", "Unauthorized") as $code
    | $lines | map(.refused = if .code == $code then 1 else .codes[$code] // 0 end)
    | select(in_each(2; 600; (map(.refused) | add) > 10)) | ["KeyVaultGatewayRefusesCallers", "ticket", $code])
| @tsv
