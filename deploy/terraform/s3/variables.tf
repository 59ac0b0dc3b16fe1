variable "bucket" {
  description = "Name of the bucket. It is for backups alone."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "hosts" {
  description = "The machines that make backups, each below a prefix of its own: url = \"s3://BUCKET/{host}/PROJECT\"."
  type        = set(string)
  validation {
    condition     = length([for host in var.hosts : host if !can(regex("^[a-z0-9][a-z0-9-]*$", host))]) == 0
    error_message = "A host is written as {host} in backstay.toml: lower-case letters, digits and hyphens."
  }
}

variable "noncurrent_days" {
  description = "How long what was overwritten or deleted can be brought back: the time in which somebody must notice."
  type        = number
  default     = 30
  validation {
    condition     = var.noncurrent_days >= 7
    error_message = "In less than 7 days nobody notices in time."
  }
}

variable "lock_days" {
  description = "Object lock: for so many days nobody deletes a version, in mode GOVERNANCE without a special right. 0: no default lock, but the bucket can have one later."
  type        = number
  default     = 0
}

variable "lock_mode" {
  description = "GOVERNANCE, or COMPLIANCE, which no administrator takes back."
  type        = string
  default     = "GOVERNANCE"
  validation {
    condition     = contains(["GOVERNANCE", "COMPLIANCE"], var.lock_mode)
    error_message = "GOVERNANCE or COMPLIANCE."
  }
}

variable "users" {
  description = "Whether IAM users are made and given their policies. Their keys are not: they would lie in Terraform's state."
  type        = bool
  default     = true
}
