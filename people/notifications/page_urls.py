"""Pages of notifications."""

from django.urls import path

from people.notifications import views

urlpatterns = [
    path("notifications/", views.notifications_page, name="notifications"),
    path("notifications/read/", views.notifications_read, name="notifications-read"),
    path("notifications/settings/", views.settings_page, name="notification-settings"),
    path("notifications/settings/save/", views.settings_save, name="notification-settings-save"),
    path("notifications/webhook/", views.webhook_save, name="webhook-save"),
    path("notifications/webhook/remove/", views.webhook_remove, name="webhook-remove"),
]
