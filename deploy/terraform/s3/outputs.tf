output "policies" {
  description = "Policies by role, to attach to users or to roles of instances."
  value       = { for name, policy in aws_iam_policy.backstay : name => policy.arn }
}

output "users" {
  description = "Users by role. Make a key for each with: aws iam create-access-key --user-name NAME"
  value       = { for name, user in aws_iam_user.backstay : name => user.name }
}

output "store" {
  description = "For [[store]] in backstay.toml."
  value       = "s3://${aws_s3_bucket.backups.id}/{host}/PROJECT"
}
