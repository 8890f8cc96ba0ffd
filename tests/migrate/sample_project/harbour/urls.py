from django.urls import path

from quay.views import call

urlpatterns = [path("call/<str:ship>/", call)]
