# The policies are those of deploy/policies, word for word. check_policies.py tries them on a server that enforces them; check_deploy.py renders this file.
locals {
  policies_folder = "${path.module}/../../policies"
  policies = merge(
    {
      for host in var.hosts : "host-${host}" => replace(replace(file("${local.policies_folder}/host.json"), "BUCKET", var.bucket), "HOST", host)
    },
    {
      for role in ["verifier", "pruner"] : role => replace(file("${local.policies_folder}/${role}.json"), "BUCKET", var.bucket)
    },
  )
}
