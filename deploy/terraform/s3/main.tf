resource "aws_s3_bucket" "backups" {
  bucket = var.bucket
  # Can only be said when a bucket is made. Without a default (lock_days) it locks nothing.
  object_lock_enabled = true

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "backups" {
  bucket = aws_s3_bucket.backups.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "backups" {
  count  = var.lock_days > 0 ? 1 : 0
  bucket = aws_s3_bucket.backups.id
  rule {
    default_retention {
      mode = var.lock_mode
      days = var.lock_days
    }
  }
  depends_on = [aws_s3_bucket_versioning.backups]
}

# backstay deletes by itself what retention lets go; no rule may delete a current version.
resource "aws_s3_bucket_lifecycle_configuration" "backups" {
  bucket = aws_s3_bucket.backups.id

  rule {
    id     = "uploads-that-were-never-ended"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  rule {
    id     = "what-was-overwritten-or-deleted"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = max(var.noncurrent_days, var.lock_days)
    }
    expiration {
      expired_object_delete_marker = true
    }
  }

  depends_on = [aws_s3_bucket_versioning.backups]
}

resource "aws_s3_bucket_public_access_block" "backups" {
  bucket                  = aws_s3_bucket.backups.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "backups" {
  bucket = aws_s3_bucket.backups.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "backups" {
  bucket = aws_s3_bucket.backups.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_policy" "tls" {
  bucket = aws_s3_bucket.backups.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "NothingWithoutTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.backups.arn, "${aws_s3_bucket.backups.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
  depends_on = [aws_s3_bucket_public_access_block.backups]
}

resource "aws_iam_policy" "backstay" {
  for_each    = local.policies
  name        = "${var.bucket}-${each.key}"
  description = "backstay: ${each.key} in ${var.bucket}"
  policy      = each.value
}

resource "aws_iam_user" "backstay" {
  for_each = var.users ? local.policies : {}
  name     = "${var.bucket}-${each.key}"
}

resource "aws_iam_user_policy_attachment" "backstay" {
  for_each   = aws_iam_user.backstay
  user       = each.value.name
  policy_arn = aws_iam_policy.backstay[each.key].arn
}
